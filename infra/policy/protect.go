package policy

// stateful maps each type that loses data, or the access to it, when it is replaced to what is
// lost.
var stateful = map[string]string{
	"aws:rds/instance:Instance":                         "the database",
	"aws:rds/cluster:Cluster":                           "the database",
	"aws:kms/key:Key":                                   "whatever it encrypted",
	"aws:s3/bucketV2:BucketV2":                          "its objects",
	"aws:s3/bucket:Bucket":                              "its objects",
	"aws:ecr/repository:Repository":                     "its images",
	"aws:eks/cluster:Cluster":                           "everything that runs",
	"aws:ec2/vpc:Vpc":                                   "the cluster and the database that are in it",
	"aws:ebs/volume:Volume":                             "its data",
	"aws:efs/fileSystem:FileSystem":                     "its data",
	"aws:dynamodb/table:Table":                          "its data",
	"aws:elasticache/replicationGroup:ReplicationGroup": "its data",
}

// Stateful tells whether resources of a type are protected.
func Stateful(token string) bool { return stateful[token] != "" }

func protected(o *Options, r Resource) []finding {
	what := stateful[r.Type]
	if !o.Protected || what == "" || r.Protect || o.mayReplace(r.Name) {
		return nil
	}
	return []finding{{"protect", "is not set: replacing it would lose " + what + "; protect it, or name it in AllowReplace"}}
}
