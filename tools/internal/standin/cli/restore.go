package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/standin/world"
)

// flags reads --name value pairs. Known names take a value, those with an empty one do not.
func flags(args []string, known map[string]bool) (map[string]string, error) {
	values := map[string]string{}
	for i := 0; i < len(args); i++ {
		name := strings.TrimPrefix(args[i], "--")
		takesValue, ok := known[name]
		switch {
		case !ok || name == args[i]:
			return nil, fmt.Errorf("the stand-in for the AWS CLI does not know %q", args[i])
		case takesValue && i+1 == len(args):
			return nil, fmt.Errorf("argument --%s: expected one argument", name)
		case takesValue:
			i++
			values[name] = args[i]
		default:
			values[name] = "true"
		}
	}
	return values, nil
}

// restore runs the commands that restore a database. Known is false for other commands.
func restore(args []string, out io.Writer) (known bool, err error) {
	commands := map[string]struct {
		flags map[string]bool
		run   func(w *world.World, given map[string]string) error
	}{
		"rds modify-db-instance": {
			map[string]bool{"db-instance-identifier": true, "new-db-instance-identifier": true, "apply-immediately": false},
			func(w *world.World, given map[string]string) error {
				if given["apply-immediately"] == "" {
					return fmt.Errorf("without --apply-immediately, the instance is renamed in its next maintenance window")
				}
				return w.RenameInstance(given["db-instance-identifier"], given["new-db-instance-identifier"])
			},
		},
		"rds delete-db-instance": {
			map[string]bool{"db-instance-identifier": true, "skip-final-snapshot": false},
			func(w *world.World, given map[string]string) error {
				if given["skip-final-snapshot"] == "" {
					return fmt.Errorf("the stand-in for the AWS CLI deletes an instance only with --skip-final-snapshot")
				}
				return w.DeleteInstance(given["db-instance-identifier"])
			},
		},
		"rds describe-db-instances": {
			map[string]bool{"db-instance-identifier": true, "query": true, "output": true},
			func(w *world.World, given map[string]string) error {
				if given["query"] != "DBInstances[0].MasterUserSecret.SecretArn" || given["output"] != "text" {
					return fmt.Errorf("the stand-in for the AWS CLI knows only the ARN of the master secret, as text")
				}
				arn, err := w.MasterSecret(given["db-instance-identifier"])
				if err == nil {
					_, err = fmt.Fprintln(out, arn)
				}
				return err
			},
		},
		"secretsmanager tag-resource": {
			map[string]bool{"secret-id": true, "tags": true},
			func(w *world.World, given map[string]string) error {
				key, tag, pair := strings.Cut(strings.TrimPrefix(given["tags"], "Key="), ",Value=")
				if !pair || key == "" {
					return fmt.Errorf("--tags is %q: use Key=NAME,Value=VALUE", given["tags"])
				}
				return w.TagSecret(given["secret-id"], key, tag)
			},
		},
	}
	if len(args) < 2 {
		return false, nil
	}
	command, known := commands[strings.Join(args[:2], " ")]
	if !known {
		return false, nil
	}
	given, err := flags(slices.Clone(args[2:]), command.flags)
	if err != nil {
		return true, err
	}
	w, err := world.Open()
	if err != nil {
		return true, err
	}
	return true, command.run(w, given)
}
