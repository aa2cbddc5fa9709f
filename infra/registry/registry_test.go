package registry_test

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/registry"
)

const (
	key    = "arn:aws:kms:us-east-1:123456789012:key/k"
	secret = "arn:aws:secretsmanager:us-east-1:123456789012:secret:ecr-pullthroughcache/ghcr-AbCdEf"
)

func args() *registry.Spec {
	return &registry.Spec{
		Name: "loja-veloz", Region: "us-east-1", AccountID: "123456789012",
		Repositories: []string{"loja-veloz/sample-web-app", "loja-veloz/pedidos"}, KeepImages: 50,
		PullThrough: []registry.Upstream{
			{Host: "quay.io", Prefix: "quay"}, {Host: "registry.k8s.io", Prefix: "k8s"},
			{Host: "public.ecr.aws", Prefix: "ecr-public"}, {Host: "ghcr.io", Prefix: "ghcr", CredentialARN: secret},
		},
		Protect: true,
	}
}

func TestRegistry(t *testing.T) {
	var urls, arns int
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		r, err := registry.New(ctx, "images", args(), pulumi.String(key))
		if err == nil {
			urls, arns = len(r.URLs), len(r.ARNs)
		}
		return err
	})
	if urls != 2 || arns != 2 {
		t.Errorf("%d URLs and %d ARNs", urls, arns)
	}
	repository := recorder.Named(t, "images-loja-veloz-pedidos").Inputs
	for field, want := range map[string]any{
		"name": "loja-veloz/pedidos", "imageTagMutability": "IMMUTABLE", "forceDelete": false,
		"imageScanningConfiguration": map[string]any{"scanOnPush": true},
		"encryptionConfigurations":   []any{map[string]any{"encryptionType": "KMS", "kmsKey": key}},
	} {
		if fmt.Sprint(repository[field]) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", field, repository[field], want)
		}
	}
	want := `{"rules":[{"rulePriority":1,"description":"Released images stay","selection":{"tagStatus":"tagged","tagPrefixList":["release-"],"countType":"imageCountMoreThan","countNumber":100000},"action":{"type":"expire"}},` +
		`{"rulePriority":2,"description":"Signatures stay","selection":{"tagStatus":"tagged","tagPrefixList":["sha256-"],"countType":"imageCountMoreThan","countNumber":100000},"action":{"type":"expire"}},` +
		`{"rulePriority":3,"description":"The newest 50 images with a tag stay","selection":{"tagStatus":"tagged","tagPatternList":["*"],"countType":"imageCountMoreThan","countNumber":50},"action":{"type":"expire"}}]}`
	cached := `{"rules":[{"rulePriority":1,"description":"Untagged images go after 7 days","selection":{"tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":7},"action":{"type":"expire"}},` +
		`{"rulePriority":2,"description":"The newest 50 images stay","selection":{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":50},"action":{"type":"expire"}}]}`
	if got := recorder.Named(t, "images-loja-veloz-pedidos-lifecycle").Inputs["policy"]; got != want {
		t.Errorf("the lifecycle is %v", got)
	}
	template := recorder.Named(t, "images-cache-quay-template").Inputs
	if template["prefix"] != "quay" || template["lifecyclePolicy"] != cached ||
		!strings.Contains(fmt.Sprint(template["encryptionConfigurations"]), key) {
		t.Errorf("the template is %v", template)
	}
	for prefix, credential := range map[string]any{"quay": nil, "k8s": nil, "ecr-public": nil, "ghcr": secret} {
		if rule := recorder.Named(t, "images-cache-"+prefix).Inputs; rule["credentialArn"] != credential ||
			rule["ecrRepositoryPrefix"] != prefix {
			t.Errorf("the cache %s is %v", prefix, rule)
		}
		template := "images-cache-" + prefix + "-template"
		recorder.InOrder(t, map[string][]string{"images-cache-" + prefix: {template}, template: {"images-cache-policy"}})
	}
	if policy := fmt.Sprint(recorder.Named(t, "images-cache-policy").Inputs["policy"]); strings.Contains(policy, `"*"`) ||
		!strings.Contains(policy, ":repository/quay/*") {
		t.Errorf("ECR's role may %s", policy)
	}
}

func TestWithoutCacheThereIsNoRole(t *testing.T) {
	a := args()
	a.PullThrough = nil
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := registry.New(ctx, "images", a, pulumi.String(key))
		return err
	})
	for _, found := range recorder.Resources() {
		if found.Type == "aws:iam/role:Role" {
			t.Errorf("%s is created without need", found.Name)
		}
	}
}

func TestValidateReportsAllErrorsAtOnce(t *testing.T) {
	spec := &registry.Spec{
		Name: "X", Region: "mars", AccountID: "1", Repositories: []string{"Bad", "a/b", "a/b", "ghcr/x", "a-b"}, KeepImages: 3,
		PullThrough: []registry.Upstream{
			{Host: "example.com", Prefix: "ex"}, {Host: "ghcr.io", Prefix: "ghcr"}, {Host: "quay.io", Prefix: "Q", CredentialARN: secret},
			{Host: "registry-1.docker.io", Prefix: "ex", CredentialARN: "arn:aws:secretsmanager:us-east-1:123456789012:secret:other"},
			{Host: "ghcr.io", Prefix: "g2", CredentialARN: "secret"},
		},
	}
	_, err := infratest.Run(true, func(ctx *pulumi.Context) error {
		_, err := registry.New(ctx, "images", spec, nil)
		return err
	})
	infratest.Refused(t, err,
		"Name is", "Region is", "AccountID is", `Repositories[0] is "Bad"`, "Repositories[2] repeats a/b", "Repositories[4] is a-b, whose resources would have the same names as those of a/b", "KeyARN is missing", "KeepImages is 3",
		`PullThrough[0].Host is "example.com"`, "PullThrough[1].CredentialARN is empty", "PullThrough[1].Prefix is also the prefix of repository ghcr/x",
		"PullThrough[2].CredentialARN is set", `PullThrough[2].Prefix is "Q"`, "PullThrough[3].CredentialARN names the secret other", "PullThrough[3].Prefix repeats ex",
		"PullThrough[4].CredentialARN is \"secret\"", "PullThrough[4].Host repeats ghcr.io")
	if err := args().Validate(); err != nil {
		t.Errorf("a valid spec is refused: %v", err)
	}
}

// expired applies a lifecycle policy to images, newest first, as ECR evaluates it: an image that
// a rule selects by its tag cannot be deleted by a rule of lower priority.
func expired(t *testing.T, policy string, images [][]string) (deleted []int) {
	t.Helper()
	var document struct {
		Rules []struct {
			RulePriority int
			Selection    struct {
				TagStatus                     string
				TagPrefixList, TagPatternList []string
				CountType                     string
				CountNumber                   int
			}
		}
	}
	if err := json.Unmarshal([]byte(policy), &document); err != nil {
		t.Fatal(err)
	}
	claimed := map[int]bool{}
	for i, rule := range document.Rules {
		if rule.RulePriority != i+1 {
			t.Errorf("rule %d has the priority %d", i, rule.RulePriority)
		}
		count := 0
		for image, tags := range images {
			fits := rule.Selection.TagStatus == "any" || rule.Selection.TagStatus == "untagged" && len(tags) == 0
			for _, prefix := range rule.Selection.TagPrefixList {
				fits = fits || slices.ContainsFunc(tags, func(tag string) bool { return strings.HasPrefix(tag, prefix) })
			}
			for _, pattern := range rule.Selection.TagPatternList {
				fits = fits || slices.ContainsFunc(tags, func(tag string) bool {
					matched, err := path.Match(pattern, tag)
					return err == nil && matched
				})
			}
			if !fits || claimed[image] {
				continue
			}
			if rule.Selection.TagStatus != "any" {
				claimed[image] = true
			}
			// All images here are older than any rule's days.
			if count++; rule.Selection.CountType == "sinceImagePushed" || count > rule.Selection.CountNumber {
				deleted = append(deleted, image)
			}
		}
	}
	return deleted
}

// Production runs an image that is older than all that the repository keeps by their number. What refers to an image
// has no tag, and counts as an image itself.
func TestCleanupKeepsWhatIsReleased(t *testing.T) {
	policy, err := registry.Lifecycle(20)
	if err != nil {
		t.Fatal(err)
	}
	var images [][]string
	untagged := map[int]bool{}
	for i := range 40 {
		for range 4 { // an image for each processor, a signature and the provenance
			untagged[len(images)] = true
			images = append(images, nil)
		}
		tags := []string{fmt.Sprintf("commit-%d", i)}
		if i == 35 {
			tags = append(tags, registry.ReleasePrefix+"commit-35")
		}
		images = append(images, tags)
	}
	const released = 35*5 + 4
	signature := len(images)
	images = append(images, []string{"sha256-35.sig"}) // the oldest of all
	got := expired(t, policy, images)
	for _, image := range got {
		switch {
		case image == released:
			t.Error("cleanup deletes a released image")
		case image == signature:
			t.Error("cleanup deletes a signature")
		case untagged[image]:
			t.Fatalf("cleanup deletes what has no tag, such as the bundle %d", image)
		}
	}
	if len(got) != 19 || slices.Contains(got, 4) {
		t.Errorf("of 39 images that are not released, cleanup deletes %v", got)
	}
}
