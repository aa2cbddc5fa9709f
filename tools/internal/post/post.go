// Package post puts a text where people read it on GitHub: as one comment of a pull request, or as one open
// issue. A later text with the same first line replaces it.
package post

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Limit is the longest body of a comment or an issue, in characters. GitHub answers 422 to a longer one.
const Limit = 65536

// robot is the author of what the token of a job writes.
const robot = "github-actions[bot]"

// A Client talks to GitHub's REST API, version 2022-11-28.
type Client struct {
	API        string // address of the API, such as https://api.github.com
	Repository string // owner/name
	Token      string
}

// Comment writes the text as a comment on a pull request, or replaces the caller's comment that begins with
// the same line. It returns the comment's address.
func (c Client) Comment(ctx context.Context, pullRequest int, text string) (string, error) {
	mark, err := marker(text)
	if err != nil {
		return "", err
	}
	what := fmt.Sprintf("commenting on pull request %d of %s", pullRequest, c.Repository)
	found, err := c.find(ctx, fmt.Sprintf("issues/%d/comments?", pullRequest), mark)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	method, path := http.MethodPost, fmt.Sprintf("issues/%d/comments", pullRequest)
	if found != nil {
		method, path = http.MethodPatch, fmt.Sprintf("issues/comments/%d", found.ID)
	}
	var written entry
	if err := c.call(ctx, method, path, map[string]string{"body": text}, &written); err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	return written.URL, nil
}

// Issue opens an issue with the text, or replaces title and text of the caller's open issue that begins with
// the same line. It returns the issue's address.
func (c Client) Issue(ctx context.Context, title, text string) (string, error) {
	mark, err := marker(text)
	if err != nil {
		return "", err
	}
	what := "writing an issue of " + c.Repository
	found, err := c.find(ctx, "issues?state=open&", mark)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	method, path := http.MethodPost, "issues"
	if found != nil {
		method, path = http.MethodPatch, fmt.Sprintf("issues/%d", found.Number)
	}
	var written entry
	if err := c.call(ctx, method, path, map[string]string{"title": title, "body": text}, &written); err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	return written.URL, nil
}

// marker returns the first line of a text, by which its earlier version is found.
func marker(text string) (string, error) {
	line, _, _ := strings.Cut(text, "\n")
	if !strings.HasPrefix(line, "<!-- ") || !strings.HasSuffix(line, " -->") {
		return "", fmt.Errorf("the text begins with %q: its first line has to be a comment of HTML, by which the next one finds it", line)
	}
	if n := utf8.RuneCountInString(text); n > Limit {
		return "", fmt.Errorf("the text has %d characters, and GitHub takes %d: post the review that COMMENT names, "+
			"and keep the .full file next to it as an artefact", n, Limit)
	}
	return line, nil
}

// An entry is a comment or an issue.
type entry struct {
	ID          int64           `json:"id"`
	Number      int             `json:"number"`
	Body        string          `json:"body"`
	URL         string          `json:"html_url"`
	PullRequest json.RawMessage `json:"pull_request,omitempty"`
	User        struct {
		Login string `json:"login"`
	} `json:"user"`
}

// find returns the caller's entry that begins with a line, or nil. Others can write that line too.
func (c Client) find(ctx context.Context, path, mark string) (*entry, error) {
	const perPage = 100 // the most that GitHub gives
	login, err := c.login(ctx)
	if err != nil {
		return nil, err
	}
	for page := 1; ; page++ {
		var all []entry
		if err := c.call(ctx, http.MethodGet, fmt.Sprintf("%sper_page=%d&page=%d", path, perPage, page), nil, &all); err != nil {
			return nil, err
		}
		for _, e := range all {
			line, _, _ := strings.Cut(strings.ReplaceAll(e.Body, "\r", ""), "\n")
			if e.PullRequest == nil && e.User.Login == login && line == mark {
				return &e, nil
			}
		}
		if len(all) < perPage {
			return nil, nil
		}
	}
}

// login is the name of the caller. The token of a job is not a user's, and GitHub does not tell its name.
func (c Client) login(ctx context.Context) (string, error) {
	var user struct{ Login string }
	err := c.request(ctx, http.MethodGet, c.API+"/user", nil, &user)
	var refused *refusal
	if errors.As(err, &refused) && refused.status == http.StatusForbidden && !refused.limited {
		return robot, nil
	}
	return user.Login, err
}

func (c Client) call(ctx context.Context, method, path string, body, into any) error {
	return c.request(ctx, method, c.API+"/repos/"+c.Repository+"/"+path, body, into)
}

// A refusal is an answer other than success.
type refusal struct {
	status  int
	message string // GitHub's
	limited bool   // too many requests
	do      string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("GitHub answers %d, %s: %s", r.status, cmp.Or(r.message, http.StatusText(r.status)), r.do)
}

func (c Client) request(ctx context.Context, method, url string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, url, &sent)
	if err != nil {
		return fmt.Errorf("GITHUB_API_URL: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+c.Token)
	r.Header.Set("Accept", "application/vnd.github+json")
	r.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("GitHub does not answer: check the network, and run the command again: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("reading GitHub's answer: %w", err)
	}
	if answer.StatusCode >= 300 {
		return refused(answer, text)
	}
	return json.Unmarshal(text, into)
}

// refused says what a person can do about an answer. "Rate limits for the REST API" and "Troubleshooting the
// REST API" of GitHub's documentation, read in 2026-11, say when it gives which.
func refused(answer *http.Response, text []byte) error {
	r := &refusal{status: answer.StatusCode}
	var said struct {
		Message string
		Errors  []struct{ Message string }
	}
	if json.Unmarshal(text, &said) == nil { // otherwise the answer is of something in between
		r.message = said.Message
		for _, e := range said.Errors {
			r.message += ", " + e.Message
		}
	}
	header := answer.Header
	seconds, _ := strconv.ParseInt(header.Get("Retry-After"), 10, 64)
	reset, _ := strconv.ParseInt(header.Get("X-RateLimit-Reset"), 10, 64)
	limit := r.status == http.StatusForbidden || r.status == http.StatusTooManyRequests
	switch {
	case limit && seconds > 0:
		r.limited, r.do = true, fmt.Sprintf("there were too many requests: run the command again in %d s", seconds)
	case limit && header.Get("X-RateLimit-Remaining") == "0":
		r.limited, r.do = true, "the limit of requests is used up: run the command again after "+time.Unix(reset, 0).UTC().Format("15:04 UTC")
	case limit:
		r.do = "the token may not do this: give the job the permission pull-requests: write, or issues: write for an issue. " +
			"A pull request from a fork never has it: its review goes to the summary of the job, without GITHUB_TOKEN"
	case r.status == http.StatusUnauthorized:
		r.do = "GITHUB_TOKEN is wrong or has expired: a job's token ends with the job"
	case r.status == http.StatusNotFound, r.status == http.StatusGone:
		r.do = "there is no such pull request or issue, or the token does not see it: check GITHUB_REPOSITORY and PULL_REQUEST"
	case r.status == http.StatusUnprocessableEntity:
		r.do = "GitHub refuses the text: read the message"
	default:
		r.do = "run the command again; if it stays so, look at githubstatus.com"
	}
	return r
}
