package post

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// github stands in for GitHub's API: it keeps comments of the pull requests and issues, and refuses what
// GitHub refuses.
type github struct {
	mu       sync.Mutex
	token    string
	login    string // of the token; empty: the token of a job, which GET /user refuses
	readOnly bool   // a job of a pull request from a fork
	limited  http.Header
	comments []entry
	issues   []entry
}

func (g *github) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	answer := func(status int, v any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	message := func(status int, text string) { answer(status, map[string]string{"message": text}) }
	for name, values := range g.limited {
		w.Header()[name] = values
	}
	var sent struct{ Title, Body string }
	path := strings.TrimPrefix(r.URL.Path, "/repos/loja-veloz/platform")
	writes := r.Method != http.MethodGet
	if writes && json.NewDecoder(r.Body).Decode(&sent) != nil {
		message(http.StatusBadRequest, "Problems parsing JSON")
		return
	}
	switch {
	case r.Header.Get("Authorization") != "Bearer "+g.token:
		message(http.StatusUnauthorized, "Bad credentials")
	case g.limited != nil:
		message(http.StatusForbidden, "API rate limit exceeded")
	case path == "/user" && g.login == "":
		message(http.StatusForbidden, "Resource not accessible by integration")
	case path == "/user":
		answer(http.StatusOK, map[string]string{"login": g.login})
	case writes && g.readOnly:
		message(http.StatusForbidden, "Resource not accessible by integration")
	case writes && utf8.RuneCountInString(sent.Body) > 65536:
		answer(http.StatusUnprocessableEntity, map[string]any{
			"message": "Validation Failed", "errors": []any{map[string]string{"message": "body is too long (maximum is 65536 characters)"}},
		})
	default:
		g.serve(w, r, path, sent.Title, sent.Body, answer, message)
	}
}

func (g *github) serve(w http.ResponseWriter, r *http.Request, path, title, body string, answer func(int, any), message func(int, string)) {
	list, id := &g.issues, ""
	switch {
	case strings.HasPrefix(path, "/issues/12/comments"):
		list = &g.comments
	case strings.HasPrefix(path, "/issues/comments/"):
		list, id = &g.comments, strings.TrimPrefix(path, "/issues/comments/")
	case path == "/issues":
	case strings.HasPrefix(path, "/issues/") && strings.Count(path, "/") == 2:
		id = strings.TrimPrefix(path, "/issues/")
	default:
		message(http.StatusNotFound, "Not Found")
		return
	}
	switch r.Method {
	case http.MethodGet:
		size, _ := strconv.Atoi(r.URL.Query().Get("per_page"))
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		from := min((page-1)*size, len(*list))
		answer(http.StatusOK, (*list)[from:min(from+size, len(*list))])
	case http.MethodPost:
		author := g.login
		if author == "" {
			author = robot
		}
		*list = append(*list, of(author, len(*list)+1, body))
		answer(http.StatusCreated, (*list)[len(*list)-1])
	case http.MethodPatch:
		for i := range *list {
			if strconv.Itoa((*list)[i].Number) == id {
				(*list)[i].Body = body
				answer(http.StatusOK, (*list)[i])
				return
			}
		}
		message(http.StatusNotFound, "Not Found")
	}
}

func of(author string, number int, body string) entry {
	e := entry{ID: int64(number), Number: number, Body: body, URL: fmt.Sprintf("https://github.example/%d", number)}
	e.User.Login = author
	return e
}

func start(t *testing.T, g *github) Client {
	t.Helper()
	g.token = "token-of-the-test"
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	return Client{API: server.URL, Repository: "loja-veloz/platform", Token: g.token}
}

const mark = "<!-- loja-preview stack=dev -->"

// TestOneCommentForEachStack: a second text replaces the first, that of another stack is a second comment,
// and neither somebody else's comment with the same line nor one beyond the first page is mistaken.
func TestOneCommentForEachStack(t *testing.T) {
	for _, login := range []string{"", "ana"} {
		g := &github{login: login}
		for i := range 150 {
			g.comments = append(g.comments, of("somebody", i+1, mark+"\nnot ours"))
		}
		c := start(t, g)
		for _, text := range []string{mark + "\nfirst", "<!-- loja-preview stack=prod -->\nprod", mark + "\nsecond"} {
			if _, err := c.Comment(t.Context(), 12, text); err != nil {
				t.Fatal(err)
			}
		}
		if len(g.comments) != 152 || g.comments[150].Body != mark+"\nsecond" || g.comments[151].Body != "<!-- loja-preview stack=prod -->\nprod" {
			t.Errorf("%q: there are %d comments, the last are %+v", login, len(g.comments), g.comments[149:])
		}
		if g.comments[0].Body != mark+"\nnot ours" {
			t.Errorf("%q: the comment of somebody else has become %q", login, g.comments[0].Body)
		}
	}
}

// TestOneOpenIssue: a pull request that begins with the line is not the issue.
func TestOneOpenIssue(t *testing.T) {
	pull := of(robot, 1, mark)
	pull.PullRequest = json.RawMessage("{}")
	g := &github{issues: []entry{pull}}
	c := start(t, g)
	for _, text := range []string{mark + "\nmonday", mark + "\ntuesday"} {
		if _, err := c.Issue(t.Context(), "dev has drifted", text); err != nil {
			t.Fatal(err)
		}
	}
	if len(g.issues) != 2 || g.issues[1].Body != mark+"\ntuesday" {
		t.Errorf("the issues are %+v", g.issues)
	}
}

// TestRefusalsSayWhatToDo: what GitHub refuses, in a sentence.
func TestRefusalsSayWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		github *github
		change func(*Client)
		number int
		text   string
		want   string
	}{
		"fork":         {github: &github{readOnly: true}, want: "A pull request from a fork never has it: its review goes to the summary"},
		"expired":      {change: func(c *Client) { c.Token = "old" }, want: "GITHUB_TOKEN is wrong or has expired"},
		"no such":      {number: 13, want: "there is no such pull request"},
		"limit":        {github: &github{limited: http.Header{"X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {"1796000400"}}}, want: "again after 01:00 UTC"},
		"secondary":    {github: &github{limited: http.Header{"Retry-After": {"60"}}}, want: "again in 60 s"},
		"too long":     {text: mark + "\n" + strings.Repeat("é", Limit), want: "characters, and GitHub takes 65536"},
		"no mark":      {text: "### Preview", want: "its first line has to be a comment of HTML"},
		"no such host": {change: func(c *Client) { c.API = "http://127.0.0.1:1" }, want: "GitHub does not answer: check the network"},
	} {
		if c.github == nil {
			c.github = &github{}
		}
		client := start(t, c.github)
		if c.change != nil {
			c.change(&client)
		}
		if c.number == 0 {
			c.number = 12
		}
		if c.text == "" {
			c.text = mark
		}
		if _, err := client.Comment(t.Context(), c.number, c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the error is %v, want one with %q", name, err, c.want)
		} else if strings.Contains(err.Error(), client.Token) {
			t.Errorf("%s: the error shows the token: %v", name, err)
		}
	}
}

// TestTheLongestTextFits: GitHub counts characters, not bytes. Client and stand-in are compared at the limit.
func TestTheLongestTextFits(t *testing.T) {
	g := &github{}
	c := start(t, g)
	longest := mark + "\n" + strings.Repeat("é", Limit-len(mark)-1)
	if _, err := c.Comment(t.Context(), 12, longest); err != nil {
		t.Error(err)
	}
	var into entry
	err := c.call(t.Context(), http.MethodPost, "issues/12/comments", map[string]string{"body": longest + "x"}, &into)
	if err == nil || !strings.Contains(err.Error(), "body is too long") {
		t.Errorf("one character more: %v", err)
	}
}
