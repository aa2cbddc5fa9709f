package aws

// cloudformationTypes are CloudFormation's stacks.
var cloudformationTypes = map[string]resourceType{
	"aws:cloudformation/stack:Stack": {
		id:      "arn:{partition}:cloudformation:{region}:{account}:stack/{name}/{uuid}",
		unique:  "{name}",
		exists:  "AlreadyExistsException",
		replace: "name disableRollback onFailure timeoutInMinutes",
		update:  "capabilities iamRoleArn notificationArns parameters policyBody policyUrl templateBody templateUrl",
		source:  "aws_cloudformation_stack" + fromDocs,
	},
}
