// Package standin has no code: its folders are the parts of a Pulumi plugin that stands in
// for pulumi-aws where the released plugin is not available. Each imports only those above
// it:
//
//   - value reads and writes Pulumi's property values.
//   - schema reads the types from the Go sources of the SDK.
//   - check compares values with the types.
//   - aws has the rules of AWS as tables: ids, ARNs, outputs, replacements, refusals.
//   - world has what exists in the fictitious account.
//   - plugin serves Pulumi's protocol.
//
// Apart from them, cli stands in for the few commands of the AWS CLI and of kubectl that
// the EKS component and EKS's kubeconfig run.
package standin
