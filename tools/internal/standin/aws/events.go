package aws

// eventsTypes are logs, events, queues, alarms and budgets.
var eventsTypes = map[string]resourceType{
	"aws:cloudwatch/logGroup:LogGroup": {
		id:      "{name}",
		arn:     "arn:{partition}:logs:{region}:{account}:log-group:{name}",
		exists:  "ResourceAlreadyExistsException",
		outputs: map[string]string{"logGroupClass": "STANDARD"},
		replace: "name namePrefix logGroupClass",
		update:  "kmsKeyId retentionInDays skipDestroy",
		source:  "aws_cloudwatch_log_group" + fromDocs,
	},
	"aws:cloudwatch/eventRule:EventRule": {
		id:      "{name}",
		arn:     "arn:{partition}:events:{region}:{account}:rule/{name}",
		exists:  "ResourceAlreadyExistsException",
		replace: "name namePrefix eventBusName",
		update:  "description eventPattern forceDestroy isEnabled roleArn scheduleExpression state",
		source:  "aws_cloudwatch_event_rule" + fromDocs,
	},
	"aws:cloudwatch/eventTarget:EventTarget": {
		id:      "{rule}-{targetId}",
		name:    "targetId",
		exists:  "ResourceAlreadyExistsException",
		replace: "rule targetId eventBusName",
		update:  "arn roleArn input inputPath inputTransformer deadLetterConfig retryPolicy",
		source:  "aws_cloudwatch_event_target" + fromDocs,
	},
	"aws:sqs/queue:Queue": {
		id:      "https://sqs.{region}.{dns}/{account}/{name}",
		arn:     "arn:{partition}:sqs:{region}:{account}:{name}",
		exists:  "QueueAlreadyExists",
		outputs: map[string]string{"url": "{id}"},
		replace: "name namePrefix fifoQueue",
		update: "contentBasedDeduplication deduplicationScope delaySeconds fifoThroughputLimit " +
			"kmsDataKeyReusePeriodSeconds kmsMasterKeyId maxMessageSize messageRetentionSeconds policy " +
			"receiveWaitTimeSeconds redriveAllowPolicy redrivePolicy sqsManagedSseEnabled " +
			"visibilityTimeoutSeconds",
		source: "aws_sqs_queue" + fromDocs,
	},
	MetricAlarm: {
		id:      "{name}",
		arn:     "arn:{partition}:cloudwatch:{region}:{account}:alarm:{name}",
		exists:  "ResourceConflict",
		replace: "name",
		update: "actionsEnabled alarmActions alarmDescription comparisonOperator datapointsToAlarm dimensions " +
			"evaluateLowSampleCountPercentiles evaluationPeriods extendedStatistic insufficientDataActions metricName metricQueries " +
			"namespace okActions period statistic threshold thresholdMetricId treatMissingData unit",
		source: "aws_cloudwatch_metric_alarm" + fromDocs,
	},
	Topic: {
		id:      "{arn}",
		arn:     "arn:{partition}:sns:{region}:{account}:{name}",
		outputs: map[string]string{"owner": "{account}"},
		replace: "name namePrefix fifoTopic",
		update:  "deliveryPolicy displayName kmsMasterKeyId policy signatureVersion tracingConfig contentBasedDeduplication",
		source:  "aws_sns_topic" + fromDocs,
	},
	TopicSubscription: {
		id:      "{arn}",
		arn:     "{topic}:{uuid}",
		outputs: map[string]string{"ownerId": "{account}"},
		replace: "topic protocol endpoint",
		update:  "deliveryPolicy filterPolicy filterPolicyScope rawMessageDelivery redrivePolicy subscriptionRoleArn",
		source:  "aws_sns_topic_subscription" + fromDocs,
	},
	Budget: {
		id:      "{account}:{name}",
		arn:     "arn:{partition}:budgets::{account}:budget/{name}",
		exists:  "DuplicateRecordException",
		replace: "name namePrefix accountId",
		update: "autoAdjustData budgetType costFilters costTypes limitAmount limitUnit notifications plannedLimits timePeriodEnd " +
			"timePeriodStart timeUnit",
		source: "aws_budgets_budget" + fromDocs,
	},
}
