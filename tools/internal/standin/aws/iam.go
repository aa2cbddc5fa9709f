package aws

// iamTypes are roles, policies and identity providers.
var iamTypes = map[string]resourceType{
	"aws:iam/role:Role": {
		id:      "{name}",
		arn:     iamARN + "role{path|/}{name}",
		exists:  "EntityAlreadyExists",
		outputs: map[string]string{"createDate": "2026-01-01T00:00:00Z", "uniqueId": "AROA{upper17}"},
		replace: "name namePrefix path",
		update: "assumeRolePolicy description forceDetachPolicies inlinePolicies managedPolicyArns maxSessionDuration " +
			"permissionsBoundary",
		source: "aws_iam_role" + fromDocs,
	},
	"aws:iam/rolePolicy:RolePolicy": {
		id:      "{role}:{name}",
		exists:  "EntityAlreadyExists",
		replace: "name namePrefix role",
		update:  "policy",
		source:  "aws_iam_role_policy" + fromDocs,
	},
	"aws:iam/rolePolicyAttachment:RolePolicyAttachment": {
		id:      "{role}-{hex17}",
		unique:  "{role} {policyArn}",
		exists:  "EntityAlreadyExists",
		replace: "role policyArn",
		source:  "aws_iam_role_policy_attachment" + fromDocs,
	},
	"aws:iam/policy:Policy": {
		id:      iamARN + "policy{path|/}{name}",
		arn:     "{id}",
		exists:  "EntityAlreadyExists",
		outputs: map[string]string{"attachmentCount": "0", "policyId": "ANPA{upper17}"},
		replace: "name namePrefix path description",
		update:  "policy",
		source:  "aws_iam_policy" + fromDocs,
	},
	"aws:iam/openIdConnectProvider:OpenIdConnectProvider": {
		id:      iamARN + "oidc-provider/{host}",
		arn:     "{id}",
		exists:  "EntityAlreadyExists",
		replace: "url",
		update:  "clientIdLists thumbprintLists",
		source:  "aws_iam_openid_connect_provider" + fromDocs,
	},
	"aws:iam/instanceProfile:InstanceProfile": {
		id:      "{name}",
		arn:     iamARN + "instance-profile{path|/}{name}",
		exists:  "EntityAlreadyExists",
		outputs: map[string]string{"createDate": "2026-01-01T00:00:00Z", "uniqueId": "AIPA{upper17}"},
		replace: "name namePrefix path",
		update:  "role",
		source:  "aws_iam_instance_profile" + fromDocs,
	},
}
