package aws

// dnsTypes are zones, records and certificates.
var dnsTypes = map[string]resourceType{
	"aws:route53/zone:Zone": {
		id:      "Z{upper20}",
		arn:     "arn:{partition}:route53:::hostedzone/{id}",
		outputs: map[string]string{"comment": "Managed by Pulumi", "primaryNameServer": "ns-1.awsdns-01.org", "zoneId": "{id}"},
		answer:  answerZone,
		replace: "name delegationSetId",
		update:  "comment forceDestroy vpcs",
		source:  "aws_route53_zone" + fromDocs,
	},
	"aws:route53/record:Record": {
		id:      "{zoneId}_{name}_{type}",
		exists:  "InvalidChangeBatch",
		outputs: map[string]string{"fqdn": "{name}"},
		replace: "name zoneId setIdentifier",
		update: "type ttl records aliases allowOverwrite healthCheckId weightedRoutingPolicies latencyRoutingPolicies " +
			"failoverRoutingPolicies geolocationRoutingPolicies multivalueAnswerRoutingPolicy cidrRoutingPolicy",
		source: "aws_route53_record" + fromDocs,
	},
	"aws:acm/certificate:Certificate": {
		id:  "{arn}",
		arn: "arn:{partition}:acm:{region}:{account}:certificate/{uuid}",
		outputs: map[string]string{
			"keyAlgorithm": "RSA_2048", "notAfter": "", "notBefore": "", "renewalEligibility": "INELIGIBLE",
			"status": "PENDING_VALIDATION", "type": "AMAZON_ISSUED",
		},
		answer: answerCertificate,
		replace: "domainName subjectAlternativeNames validationMethod certificateAuthorityArn keyAlgorithm " +
			"validationOptions",
		update: "options privateKey certificateBody certificateChain earlyRenewalDuration",
		source: "aws_acm_certificate" + fromDocs,
	},
	"aws:acm/certificateValidation:CertificateValidation": {
		id:      "{uuid}",
		replace: "certificateArn validationRecordFqdns",
		source:  "aws_acm_certificate_validation" + fromDocs,
	},
}
