//go:build e2e

package drill

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"
)

// TestKillWhileSendingAnEvent kills pedidos after an endpoint has got an event, before that is stored. The
// event is sent again with the same id, and the order's next event only afterwards.
func TestKillWhileSendingAnEvent(t *testing.T) {
	s := start(t)
	type event struct {
		id, Type string
		Sequence int
	}
	got := make(chan event, 100)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		e := event{id: r.Header.Get("webhook-id")}
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Error(err)
		}
		got <- e
	}))
	t.Cleanup(endpoint.Close)
	status, answer, err := s.send(t.Context(), "POST", "/webhooks", `{"url":"`+endpoint.URL+`"}`)
	if err != nil || status != http.StatusCreated {
		t.Fatalf("POST /webhooks = %d %s, %v", status, answer, err)
	}
	if err := s.Restart(t.Context(), "pedidos", "FAULT=webhook-sent", "FAULT_ONCE="+filepath.Join(t.TempDir(), "once")); err != nil {
		t.Fatal(err)
	}
	dead, err := s.Ended("pedidos")
	if err != nil {
		t.Fatal(err)
	}
	placed, err := s.place(t.Context(), orderOf(s.items(t)[0], 1, "tok_approved"), "event")
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-dead:
	case <-time.After(deadline):
		t.Fatal("pedidos still runs: it did not reach the fault point webhook-sent")
	}
	if err := s.Restart(t.Context(), "pedidos", "FAULT="); err != nil {
		t.Fatal(err)
	}
	s.cancel(t, placed.ID)
	if ended, err := s.ends(t.Context(), placed.ID); err != nil || ended.State != "refunded" {
		t.Fatalf("the order is %s, %v", ended.State, err)
	}
	var first string
	for i, want := range []string{"order.confirmed", "order.confirmed", "order.refunding", "order.refunded"} {
		select {
		case e := <-got:
			if e.Type != want || e.Sequence != max(i, 1) {
				t.Errorf("request %d has event %d, %s; want %s", i, e.Sequence, e.Type, want)
			}
			if i == 0 {
				first = e.id
			} else if (e.id == first) != (i == 1) {
				t.Errorf("request %d has the id %s, the first had %s", i, e.id, first)
			}
		case <-time.After(2 * deadline): // the lease of the dead process is a minute
			t.Fatalf("request %d does not come: want %s", i, want)
		}
	}
	s.audit(t)
}
