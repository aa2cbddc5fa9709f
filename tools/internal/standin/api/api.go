// Package api answers, from the stand-in's world, the few calls of AWS's own APIs that a check of
// an account makes, so that the real SDK can run against it.
package api

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
	"github.com/loja-veloz/platform/tools/internal/standin/world"
)

// NewAccountQuotas are the quotas of a new account, by code.
func NewAccountQuotas() map[string]float64 {
	all := map[string]float64{}
	for _, quota := range aws.Quotas {
		all[quota.Code] = quota.New
	}
	return all
}

// An API answers HTTP requests of AWS's SDKs.
type API struct {
	World   *world.World
	Account string
	Quotas  map[string]float64 // by code
	// Caller is the ARN of the caller, as STS returns it.
	Caller string
	// Images are the tags of the images in ECR, by repository and digest, joined by @.
	Images map[string][]string
	// ImageType is the media type of every image's manifest.
	ImageType string
	// Denied are the actions that the caller may not call.
	Denied []string
	// CPUs are the vCPUs of instance types.
	CPUs map[string]int
}

// fault is an error as AWS returns it.
type fault struct {
	status        int
	code, message string
}

func (f *fault) Error() string { return f.code + ": " + f.message }

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target := r.Header.Get("X-Amz-Target")
	switch {
	case target != "":
		a.serveJSON(w, r, target[strings.LastIndex(target, ".")+1:])
	case strings.HasPrefix(r.URL.Path, "/2013-04-01/hostedzone/"):
		a.serveZone(w, r)
	default:
		a.serveQuery(w, r)
	}
}

// request is the body of the JSON requests that have an answer.
type request struct {
	QuotaCode, LogGroupNamePrefix, RepositoryName string
	ImageIDs                                      []struct{ ImageDigest string } `json:"imageIds"`
}

func (a *API) serveJSON(w http.ResponseWriter, r *http.Request, action string) {
	var in request
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out, err := a.json(action, &in)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if err != nil {
		f := asFault(err)
		w.WriteHeader(f.status)
		out = map[string]any{"__type": f.code, "message": f.message}
	}
	_ = json.NewEncoder(w).Encode(out) // the client has gone
}

// refuse returns AWS's error for an action that the caller may not call, with the service's code.
func (a *API) refuse(action, code string) error {
	if slices.Contains(a.Denied, action) {
		return &fault{http.StatusForbidden, code, "not authorized to perform " + action}
	}
	return nil
}

func (a *API) json(action string, in *request) (out any, err error) {
	if err := a.refuse(action, "AccessDeniedException"); err != nil {
		return nil, err
	}
	switch action {
	case "GetServiceQuota":
		quota, known := a.Quotas[in.QuotaCode]
		if !known {
			err = &fault{http.StatusBadRequest, "NoSuchResourceException", in.QuotaCode}
			break
		}
		out = map[string]any{"Quota": map[string]any{"QuotaCode": in.QuotaCode, "Value": quota}}
	case "DescribePullThroughCacheRules":
		var rules []any
		err = a.each(aws.PullThroughCacheRule, func(o *world.Object) {
			rules = append(rules, map[string]any{"ecrRepositoryPrefix": o.ID, "upstreamRegistryUrl": value.Text(o.Inputs, "upstreamRegistryUrl")})
		})
		out = map[string]any{"pullThroughCacheRules": rules}
	case "DescribeImages":
		var details []any
		for _, id := range in.ImageIDs {
			tags, found := a.Images[in.RepositoryName+"@"+id.ImageDigest]
			if !found {
				err = &fault{http.StatusBadRequest, "ImageNotFoundException", id.ImageDigest}
			}
			details = append(details, map[string]any{"imageDigest": id.ImageDigest, "imageTags": tags, "imageManifestMediaType": a.ImageType})
		}
		out = map[string]any{"imageDetails": details}
	case "DescribeLogGroups":
		var groups []any
		err = a.each(aws.LogGroup, func(o *world.Object) {
			if strings.HasPrefix(o.ID, in.LogGroupNamePrefix) {
				groups = append(groups, map[string]any{"logGroupName": o.ID})
			}
		})
		out = map[string]any{"logGroups": groups}
	default:
		err = unanswered(action)
	}
	return out, err
}

// each calls f for every object of a type.
func (a *API) each(token string, f func(*world.Object)) error {
	all, err := a.World.All(token)
	for _, o := range all {
		f(o)
	}
	return err
}

func unanswered(action string) error {
	return &fault{http.StatusNotImplemented, "NotImplemented", "the stand-in has no answer to " + action}
}

func asFault(err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	return &fault{http.StatusInternalServerError, "InternalFailure", err.Error()}
}

// element is an XML element with text or children.
type element struct {
	XMLName  xml.Name
	Text     string    `xml:",chardata"`
	Children []element `xml:",any"`
}

func node(name string, children ...element) element {
	return element{XMLName: xml.Name{Local: name}, Children: children}
}

func leaf(name, text string) element { return element{XMLName: xml.Name{Local: name}, Text: text} }

func (a *API) serveQuery(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	action := r.Form.Get("Action")
	out, err := a.query(action, r)
	if err != nil {
		writeFault(w, asFault(err))
		return
	}
	writeXML(w, http.StatusOK, node(action+"Response", out...))
}

func (a *API) query(action string, r *http.Request) ([]element, error) {
	code := "AccessDenied"
	if strings.Contains(r.Header.Get("Authorization"), "/ec2/aws4_request") {
		code = "UnauthorizedOperation"
	}
	if err := a.refuse(action, code); err != nil {
		return nil, err
	}
	switch action {
	case "GetCallerIdentity":
		return []element{node(action+"Result", leaf("Arn", a.Caller), leaf("Account", a.Account), leaf("UserId", "AROASTANDIN"))}, nil
	case "GetRole":
		role, err := a.World.Get(aws.Role, r.Form.Get("RoleName"))
		if err == nil && role == nil {
			err = &fault{http.StatusNotFound, "NoSuchEntity", "The role cannot be found."}
		}
		if err != nil {
			return nil, err
		}
		return []element{node(action+"Result", node("Role",
			leaf("RoleName", role.ID), leaf("Arn", value.Text(role.Outputs, "arn")), leaf("Path", "/"),
			leaf("RoleId", "AROASTANDIN"), leaf("CreateDate", "2026-01-01T00:00:00Z")))}, nil
	case "GetOpenIDConnectProvider":
		provider, err := a.World.Get(aws.OIDCProvider, r.Form.Get("OpenIDConnectProviderArn"))
		if err == nil && provider == nil {
			err = &fault{http.StatusNotFound, "NoSuchEntity", "OpenIDConnect Provider not found."}
		}
		if err != nil {
			return nil, err
		}
		ids := node("ClientIDList")
		for _, id := range value.Texts(provider.Inputs, "clientIdLists") {
			ids.Children = append(ids.Children, leaf("member", id))
		}
		return []element{node(action+"Result", ids)}, nil
	case "DescribeVpcs":
		return a.described("vpcSet", aws.VPC, "vpcId")
	case "DescribeAddresses":
		return a.described("addressesSet", aws.EIP, "allocationId")
	case "DescribeAvailabilityZones":
		return zones(r.Form)
	case "DescribeInstanceTypes":
		return a.instanceTypes(r.Form.Get("InstanceType.1"))
	case "DescribeInstances":
		return a.machines()
	}
	return nil, unanswered(action)
}

// described lists the objects of a type with their tags.
func (a *API) described(set, token, id string) ([]element, error) {
	list := node(set)
	err := a.each(token, func(o *world.Object) {
		list.Children = append(list.Children, node("item", leaf(id, o.ID), tagSet(o.Outputs)))
	})
	return []element{list}, err
}

// zones answers for the zones that a request names, which have the letters a to f.
func zones(form url.Values) ([]element, error) {
	list := node("availabilityZoneInfo")
	for i := 1; form.Get(fmt.Sprint("ZoneName.", i)) != ""; i++ {
		name := form.Get(fmt.Sprint("ZoneName.", i))
		region := strings.TrimRight(name, "abcdef")
		if len(region) != len(name)-1 {
			return nil, &fault{http.StatusBadRequest, "InvalidParameterValue", "Invalid availability zone: [" + name + "]"}
		}
		id := aws.ZoneID(region, name)
		list.Children = append(list.Children, node("item", leaf("zoneName", name), leaf("zoneId", id)))
	}
	return []element{list}, nil
}

func tagSet(outputs resource.PropertyMap) element {
	set := node("tagSet")
	tags := value.Plain(outputs["tagsAll"])
	if !tags.IsObject() {
		return set
	}
	for _, key := range tags.ObjectValue().StableKeys() {
		set.Children = append(set.Children, node("item", leaf("key", string(key)), leaf("value", value.Text(tags.ObjectValue(), string(key)))))
	}
	return set
}

func (a *API) instanceTypes(name string) ([]element, error) {
	cpus, known := a.CPUs[name]
	if !known {
		return nil, &fault{http.StatusBadRequest, "InvalidInstanceType", name}
	}
	info := node("vCpuInfo", leaf("defaultVCpus", fmt.Sprint(cpus)))
	return []element{node("instanceTypeSet", node("item", leaf("instanceType", name), info))}, nil
}

// machines are the nodes of the world's node groups, with the tags of their launch template.
func (a *API) machines() ([]element, error) {
	list := node("instancesSet")
	err := a.each(aws.NodeGroup, func(o *world.Object) {
		count := 0
		if scaling := value.Plain(o.Inputs["scalingConfig"]); scaling.IsObject() {
			if n := value.Plain(scaling.ObjectValue()["desiredSize"]); n.IsNumber() {
				count = int(n.NumberValue())
			}
		}
		for range count {
			for _, kind := range value.Texts(o.Inputs, "instanceTypes") {
				cpus := node("cpuOptions", leaf("coreCount", fmt.Sprint(a.CPUs[kind])), leaf("threadsPerCore", "1"))
				list.Children = append(list.Children, node("item", leaf("instanceType", kind), cpus, tagSet(o.Outputs)))
			}
		}
	})
	return []element{node("reservationSet", node("item", list))}, err
}

func (a *API) serveZone(w http.ResponseWriter, r *http.Request) {
	id, records := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/2013-04-01/hostedzone/"), "/rrset")
	zone, err := a.World.Get(aws.Zone, id)
	if err == nil && zone == nil {
		err = &fault{http.StatusNotFound, "NoSuchHostedZone", "No hosted zone found with ID: " + id}
	}
	if err != nil {
		writeFault(w, asFault(err))
		return
	}
	if !records {
		servers := node("NameServers")
		for _, server := range value.Texts(zone.Outputs, "nameServers") {
			servers.Children = append(servers.Children, leaf("NameServer", server))
		}
		writeXML(w, http.StatusOK, node("GetHostedZoneResponse",
			node("HostedZone", leaf("Id", "/hostedzone/"+id), leaf("Name", value.Text(zone.Inputs, "name")+"."), leaf("CallerReference", "x")),
			node("DelegationSet", servers)))
		return
	}
	var found []element
	err = a.each(aws.Record, func(o *world.Object) {
		name := value.Text(o.Inputs, "name")
		if value.Text(o.Inputs, "zoneId") == id && name >= r.URL.Query().Get("name") {
			found = append(found, node("ResourceRecordSet", leaf("Name", name+"."), leaf("Type", value.Text(o.Inputs, "type"))))
		}
	})
	if err != nil {
		writeFault(w, asFault(err))
		return
	}
	sort.SliceStable(found, func(i, j int) bool { return found[i].Children[0].Text < found[j].Children[0].Text })
	writeXML(w, http.StatusOK, node("ListResourceRecordSetsResponse",
		node("ResourceRecordSets", found...), leaf("IsTruncated", "false"), leaf("MaxItems", "300")))
}

func writeFault(w http.ResponseWriter, f *fault) {
	// EC2 wraps errors in Response and Errors, the others in ErrorResponse; each reads its own.
	failed := node("Error", leaf("Code", f.code), leaf("Message", f.message))
	writeXML(w, f.status, node("ErrorResponse", failed, node("Errors", failed)))
}

func writeXML(w http.ResponseWriter, status int, root element) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(root) // the client has gone
}
