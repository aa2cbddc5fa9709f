package aws

// rdsTypes are database instances and their groups.
var rdsTypes = map[string]resourceType{
	"aws:rds/instance:Instance": {
		id:     "db-{upper26}",
		arn:    rdsARN + "db:{identifier}",
		name:   "identifier",
		lower:  true,
		unique: "{identifier}",
		exists: "DBInstanceAlreadyExists",
		outputs: map[string]string{
			"address": "{identifier}.{hex12}.{region}.rds.{dns}", "availabilityZone": "{region}a", "backupWindow": "03:00-04:00",
			"caCertIdentifier": "rds-ca-rsa2048-g1", "endpoint": "{address}:{port}",
			"engineVersionActual": "{engineVersion}", "hostedZoneId": "Z{upper13}", "licenseModel": "postgresql-license",
			"maintenanceWindow": "mon:04:30-mon:05:30", "networkType": "IPV4", "parameterGroupName": "default.{engine}",
			"port": "5432", "resourceId": "{id}", "status": "available", "storageType": "gp2",
		},
		answer: answerInstance,
		replace: "availabilityZone characterSetName customIamInstanceProfile dbName name engine identifierPrefix " +
			"kmsKeyId ncharCharacterSetName restoreToPointInTime s3Import snapshotIdentifier storageEncrypted " +
			"timezone username",
		update: "allocatedStorage allowMajorVersionUpgrade applyImmediately autoMinorVersionUpgrade " +
			"backupRetentionPeriod backupWindow caCertIdentifier copyTagsToSnapshot dbSubnetGroupName " +
			"deleteAutomatedBackups deletionProtection enabledCloudwatchLogsExports engineVersion " +
			"finalSnapshotIdentifier iamDatabaseAuthenticationEnabled instanceClass iops licenseModel " +
			"maintenanceWindow manageMasterUserPassword masterUserSecretKmsKeyId maxAllocatedStorage " +
			"monitoringInterval monitoringRoleArn multiAz networkType optionGroupName parameterGroupName password " +
			"performanceInsightsEnabled performanceInsightsKmsKeyId performanceInsightsRetentionPeriod port " +
			"publiclyAccessible skipFinalSnapshot storageThroughput storageType vpcSecurityGroupIds " +
			"blueGreenUpdate databaseInsightsMode",
		source: "aws_db_instance" + readInSource,
	},
	Snapshot: {
		id:     "{dbSnapshotIdentifier}",
		lower:  true,
		exists: "DBSnapshotAlreadyExists",
		outputs: map[string]string{
			"dbSnapshotArn": rdsARN + "snapshot:{dbSnapshotIdentifier}", "engine": "postgres", "snapshotType": "manual", "status": "available",
		},
		replace: "dbInstanceIdentifier dbSnapshotIdentifier",
		update:  "sharedAccounts",
		source:  "aws_db_snapshot" + fromDocs,
	},
	"aws:rds/subnetGroup:SubnetGroup": {
		id:      "{name}",
		arn:     rdsARN + "subgrp:{name}",
		lower:   true,
		exists:  "DBSubnetGroupAlreadyExists",
		outputs: map[string]string{"description": "Managed by Pulumi", "vpcId": "vpc-{hex17}"},
		replace: "name namePrefix",
		update:  "description subnetIds",
		source:  "aws_db_subnet_group" + fromDocs,
	},
	"aws:rds/parameterGroup:ParameterGroup": {
		id:      "{name}",
		arn:     rdsARN + "pg:{name}",
		lower:   true,
		exists:  "DBParameterGroupAlreadyExists",
		outputs: map[string]string{"description": "Managed by Pulumi"},
		replace: "name namePrefix family description",
		update:  "parameters skipDestroy",
		source:  "aws_db_parameter_group" + fromDocs,
	},
}
