package platform

import "testing"

func TestUnlockedStackFileHasNoSecrets(t *testing.T) {
	got := string(unlocked([]byte(`secretsprovider: awskms://alias/x
encryptedkey: abc
config:
  a:b: plain
  a:token:
    secure: v1:xyz
  a:nested:
    inner: {secure: v1:xyz}
    other: 1
`)))
	want := `config:
  a:b: plain
  a:token: stands-in-for-a-secret
  a:nested:
    inner: stands-in-for-a-secret
    other: 1
`
	if got != want {
		t.Errorf("the copy is\n%s\nwant\n%s", got, want)
	}
}
