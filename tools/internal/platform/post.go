package platform

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/loja-veloz/platform/tools/internal/post"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

// Post puts a review on a pull request or into an issue. A job without a token, such as that of a pull request
// from a fork, shows it in its own summary.
func Post(ctx context.Context, w Workspace, c settings.Comment) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("FILE: %w", err)
	}
	if c.Token == "" {
		f, err := os.OpenFile(c.Summary, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("GITHUB_STEP_SUMMARY: %w", err)
		}
		_, err = f.Write(append(text, '\n'))
		w.Out.Step("there is no GITHUB_TOKEN: the review is in the summary of the job")
		return errors.Join(err, f.Close())
	}
	client := post.Client{API: c.API, Repository: c.Repository, Token: c.Token}
	var address string
	if c.Issue == "" {
		address, err = client.Comment(ctx, c.PullRequest, string(text))
	} else {
		address, err = client.Issue(ctx, c.Issue, string(text))
	}
	if err != nil {
		return err
	}
	w.Out.Step("wrote %s", address)
	return nil
}
