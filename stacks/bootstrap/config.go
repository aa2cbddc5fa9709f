package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/loja-veloz/platform/infra/registry"
)

const (
	// project is the prefix of every name, and the Pulumi project of the environments.
	project = "loja-veloz"
	// namespace is the configuration namespace of this Pulumi project.
	namespace = project + "-bootstrap"
	// pipeline replaces the environment in the names of CI's roles, so that no environment's name
	// is a prefix of them.
	pipeline = "ci"
)

// config is the configuration of an account's stack. The defaults are those of Pulumi.yaml.
type config struct {
	AccountID, Region string
	Environments      []string
	// Repositories are the programs of the catalogue, each of which gets a repository in ECR.
	Repositories []string
	KeepImages   int
	GitHub       github
	// StateBucket is the name of the bucket for state; empty derives one from
	// account and region, as names in S3 are global.
	StateBucket string
	// StateVersionDays is for how many days an overwritten state can be restored, 7 to 3650.
	StateVersionDays int
	// AccessLogBucket is the bucket for the state bucket's access log; empty turns the log off.
	AccessLogBucket string
	// HostedZones are the ids of the Route 53 zones in which environments create records.
	HostedZones  []string
	PullThrough  []registry.Upstream
	AllowReplace []string
	// Adopt maps names of this program's resources to ids of objects that the account has already.
	Adopt map[string]string
}

// github is the repository whose jobs may assume roles.
type github struct {
	Org, Repo string
	// OrgID and RepoID are GitHub's numeric ids of the two.
	OrgID, RepoID string
	// Branch is the branch from which CI pushes images.
	Branch string
	// ExistingProvider says that the account has GitHub's identity provider already, and that
	// somebody else looks after it. AWS allows one for each URL and account.
	ExistingProvider bool
}

func defaults() *config {
	return &config{
		Environments:     []string{"dev", "prod"},
		KeepImages:       50,
		GitHub:           github{Branch: "main"},
		StateVersionDays: 90,
	}
}

var (
	accountForm     = regexp.MustCompile(`^[0-9]{12}$`)
	regionForm      = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[1-9]$`)
	environmentForm = regexp.MustCompile(`^[a-z][a-z0-9]{1,11}$`)
	bucketForm      = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$`)
	githubForm      = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
	branchForm      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_./-]*$`)
	idForm          = regexp.MustCompile(`^[1-9][0-9]*$`)
	zoneForm        = regexp.MustCompile(`^Z[A-Z0-9]{1,31}$`)
)

// load reads Pulumi's configuration, full keys to values, for the programs of the
// catalogue. It reports every error at once, a line each.
func load(values map[string]string, programs []string) (*config, error) {
	c := defaults()
	c.Repositories = programs
	r := &reader{}
	c.Region = values["aws:region"]
	r.object(namespace+":", values, map[string]func(path, raw string){
		"accountId":        r.text(&c.AccountID),
		"environments":     r.texts(&c.Environments),
		"keepImages":       r.number(&c.KeepImages),
		"stateBucket":      r.text(&c.StateBucket),
		"stateVersionDays": r.number(&c.StateVersionDays),
		"accessLogBucket":  r.text(&c.AccessLogBucket),
		"hostedZones":      r.texts(&c.HostedZones),
		"allowReplace":     r.texts(&c.AllowReplace),
		"github": func(path, raw string) {
			r.nested(path, raw, map[string]func(path, raw string){
				"org": r.text(&c.GitHub.Org), "repo": r.text(&c.GitHub.Repo), "branch": r.text(&c.GitHub.Branch),
				"orgId": r.text(&c.GitHub.OrgID), "repoId": r.text(&c.GitHub.RepoID),
				"existingProvider": r.flag(&c.GitHub.ExistingProvider),
			})
		},
		"adopt": func(path, raw string) {
			if json.Unmarshal([]byte(raw), &c.Adopt) != nil {
				r.add("%s is %s: a map of resource names to ids is expected", path, raw)
			}
		},
		"pullThrough": func(path, raw string) {
			var items []json.RawMessage
			if json.Unmarshal([]byte(raw), &items) != nil {
				r.add("%s is %s: a list is expected", path, raw)
				return
			}
			c.PullThrough = make([]registry.Upstream, len(items))
			for i, item := range items {
				u := &c.PullThrough[i]
				r.nested(fmt.Sprintf("%s[%d]", path, i), string(item), map[string]func(path, raw string){
					"prefix": r.text(&u.Prefix), "host": r.text(&u.Host), "credentialArn": r.text(&u.CredentialARN),
				})
			}
		},
	})
	c.validate(r)
	return c, errors.Join(r.errs...)
}

func (c *config) validate(r *reader) {
	key := func(name string) string { return namespace + ":" + name }
	form := func(name, value string, pattern *regexp.Regexp, want string) {
		if !pattern.MatchString(value) {
			r.add("%s is %q: %s", name, value, want)
		}
	}
	form("aws:region", c.Region, regionForm, "use a region such as us-east-1")
	form(key("accountId"), c.AccountID, accountForm, "an AWS account has 12 digits")
	if c.AccountID == "000000000000" {
		r.add("%s is %s, which is not an account", key("accountId"), c.AccountID)
	}
	list := func(name string, values []string, pattern *regexp.Regexp, want string) {
		for i, value := range values {
			form(fmt.Sprintf("%s[%d]", key(name), i), value, pattern, want)
			if slices.Contains(values[:i], value) {
				r.add("%s[%d] repeats %q", key(name), i, value)
			}
		}
	}
	list("environments", c.Environments, environmentForm, "use 2 to 12 lower-case letters and digits, beginning with a letter")
	list("hostedZones", c.HostedZones, zoneForm, "use the id of a Route 53 hosted zone, which begins with Z")
	if len(c.Environments) == 0 {
		r.add("%s is empty: no role would be created", key("environments"))
	}
	for i, name := range c.Environments {
		if name == pipeline {
			r.add("%s[%d] is %q, which is reserved for the names of CI's roles", key("environments"), i, name)
		}
		// IAM policies match names by prefix: the roles of dev could change dev2.
		for _, other := range c.Environments {
			if other != name && strings.HasPrefix(other, name) {
				r.add("%s: %q begins with %q: the permissions of the second would include the resources of the first", key("environments"), other, name)
			}
		}
	}
	form(key("github.org"), c.GitHub.Org, githubForm, "use GitHub's name of the owner, without wildcards")
	form(key("github.repo"), c.GitHub.Repo, githubForm, "use the repository's name, without owner or wildcards")
	form(key("github.branch"), c.GitHub.Branch, branchForm, "use a branch, without wildcards")
	for name, id := range map[string]string{"github.orgId": c.GitHub.OrgID, "github.repoId": c.GitHub.RepoID} {
		form(key(name), id, idForm, "GitHub's ids are numbers; gh api repos/ORG/REPO --jq .id,.owner.id prints them")
	}
	if c.StateBucket == "" {
		c.StateBucket = fmt.Sprintf("%s-state-%s-%s", project, c.AccountID, c.Region)
	} else {
		form(key("stateBucket"), c.StateBucket, bucketForm, "a bucket has 3 to 63 lower-case letters, digits and hyphens")
	}
	if c.AccessLogBucket != "" {
		form(key("accessLogBucket"), c.AccessLogBucket, bucketForm, "a bucket has 3 to 63 lower-case letters, digits and hyphens")
	}
	if c.AccessLogBucket != "" && c.AccessLogBucket == c.StateBucket {
		r.add("%s is the state bucket: writing the log would be logged again", key("accessLogBucket"))
	}
	if c.StateVersionDays < 7 || c.StateVersionDays > 3650 {
		r.add("%s is %d: use 7 to 3650 days", key("stateVersionDays"), c.StateVersionDays)
	}
	if slices.Contains(c.AllowReplace, "*") || slices.Contains(c.AllowReplace, "") {
		r.add("%s has \"*\": name each resource that may be replaced or deleted", key("allowReplace"))
	}
	if len(r.errs) == 0 {
		// The registry's own validation reports too few images, and upstreams that ECR does not
		// support or for which it needs credentials.
		if err := c.registry().Validate(); err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				r.add("%s: the registry's %s", namespace, line)
			}
		}
	}
	slices.SortStableFunc(r.errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
}

// repository returns the name of a program's repository in ECR.
func repository(program string) string { return project + "/" + program }

// registry describes the account's registry.
func (c *config) registry() *registry.Spec {
	spec := &registry.Spec{
		Name: project, Region: c.Region, AccountID: c.AccountID,
		KeepImages: c.KeepImages, PullThrough: c.PullThrough, Protect: true,
	}
	for _, program := range c.Repositories {
		spec.Repositories = append(spec.Repositories, repository(program))
	}
	return spec
}

// reader decodes and collects errors.
type reader struct{ errs []error }

func (r *reader) add(format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf(format, args...))
}

// object decodes the values whose keys begin with prefix into their fields.
func (r *reader) object(prefix string, values map[string]string, fields map[string]func(path, raw string)) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name, ours := strings.CutPrefix(key, prefix)
		if !ours {
			continue // another namespace's
		}
		read, known := fields[name]
		if !known {
			r.add("%s is unknown; known are %s", key, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
			continue
		}
		read(key, values[key])
	}
}

// nested reads a JSON object.
func (r *reader) nested(path, raw string, fields map[string]func(path, raw string)) {
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(raw), &object) != nil {
		r.add("%s is %s: an object is expected", path, raw)
		return
	}
	values := map[string]string{}
	for name, value := range object {
		values[path+"."+name] = plain(value)
	}
	r.object(path+".", values, fields)
}

// plain returns a value as Pulumi passes it at the top level: text without quotes. A number
// keeps all its digits, since `pulumi config set --path` stores GitHub's ids as numbers.
func plain(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) == nil {
		return text
	}
	return string(bytes.TrimSpace(value))
}

func (r *reader) text(into *string) func(path, raw string) {
	return func(path, raw string) {
		if strings.HasPrefix(raw, "{") || strings.HasPrefix(raw, "[") {
			r.add("%s is %s: a string is expected", path, raw)
			return
		}
		*into = raw
	}
}

func (r *reader) number(into *int) func(path, raw string) {
	return func(path, raw string) {
		number, err := strconv.ParseInt(raw, 10, 32)
		if err != nil {
			r.add("%s is %q: a whole number is expected", path, raw)
			return
		}
		*into = int(number)
	}
}

func (r *reader) flag(into *bool) func(path, raw string) {
	return func(path, raw string) {
		if raw != "true" && raw != "false" {
			r.add("%s is %q: true or false is expected", path, raw)
			return
		}
		*into = raw == "true"
	}
}

func (r *reader) texts(into *[]string) func(path, raw string) {
	return func(path, raw string) {
		var list []string
		if json.Unmarshal([]byte(raw), &list) != nil {
			r.add("%s is %s: a list of strings is expected; set one with pulumi config set --path '%s[0]' VALUE", path, raw, path)
			return
		}
		*into = list
	}
}
