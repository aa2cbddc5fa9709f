#!/usr/bin/env bash
# One would guess: `pulumi preview --config-path --config 'shop:database.multiAz=false'` previews with that one
# property of the object changed, as `pulumi config set --path database.multiAz false` changes it. The flag
# says: "Config keys contain a path to a property in a map or list to set".
#
# What happens: the path is applied to an empty object, and the result replaces the whole of shop:database.
# All its other properties are gone, for this run and, because preview also saves what it is given, in
# the stack's file. `pulumi up` reads its flags by the same function.
#
# Version: the CLI of github.com/pulumi/pulumi v3.258.0. A program in Go without resources is previewed, with
# state in a folder, by the last Go language host that can be built from the module proxy (v3.66.0).
#
# How it was seen: a stack has an object with two properties. One of them is set by `pulumi config set --path`,
# and then, from the same file as at first, by `pulumi preview`. The program prints the object.
#
# Why it matters: one setting given for a trial turns the others back to their defaults, here the size of a
# database. Where they have no defaults the program fails; where they have, the plan shows changes that nobody has
# asked for, and the next update without the flag carries them out, unless somebody has put the file back.
#
# Output seen:
#   before:          {"instance":"db.m7g.large","multiAz":true}
#   config set:      {"instance":"db.m7g.large","multiAz":false}
#   preview --config {"multiAz":false}, and so the file: shop:database: multiAz: false
set -euo pipefail

dir="$(mktemp -d)"
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
export GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0

# build NAME MODULE VERSION PACKAGE: go install refuses modules that replace others.
build() {
	mkdir -p "$dir/bin" "$dir/$1"
	cd "$dir/$1"
	printf 'module finding\ngo 1.24.0\nrequire %s %s\n' "$2" "$3" >go.mod
	go build -o "$dir/bin/$1" "$4"
}
build pulumi github.com/pulumi/pulumi/pkg/v3 v3.258.0 github.com/pulumi/pulumi/pkg/v3/cmd/pulumi
build pulumi-language-go github.com/pulumi/pulumi/sdk/v3 v3.66.0 github.com/pulumi/pulumi/sdk/v3/go/pulumi-language-go

mkdir -p "$dir/program" "$dir/state" "$dir/home"
cd "$dir/program"
export PATH="$dir/bin:$PATH" PULUMI_HOME="$dir/home" PULUMI_BACKEND_URL="file://$dir/state" PULUMI_CONFIG_PASSPHRASE=none \
	PULUMI_SKIP_UPDATE_CHECK=true PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=true
cat >Pulumi.yaml <<'YAML'
name: shop
runtime: go
YAML
cat >Pulumi.dev.yaml <<'YAML'
config:
  shop:database:
    instance: db.m7g.large
    multiAz: true
YAML
cat >go.mod <<'MOD'
module example.com/shop

go 1.24.0

require github.com/pulumi/pulumi/sdk/v3 v3.258.0
MOD
cat >main.go <<'GO'
package main

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
)

func main() {
	pulumi.Run(func(ctx *pulumi.Context) error {
		return ctx.Log.Info("database "+config.New(ctx, "").Get("database"), nil)
	})
}
GO
go mod tidy 2>/dev/null
pulumi --non-interactive stack init dev >/dev/null 2>&1
cp Pulumi.dev.yaml before.yaml

# seen FLAGS...: the object that the program gets.
seen() {
	pulumi --non-interactive preview --stack dev "$@" >preview.log 2>&1 || { cat preview.log >&2; exit 1; }
	grep -oE 'database \{.*\}' preview.log | head -n 1 | cut -d ' ' -f 2
}
check() { [ "$2" = "$3" ] || { echo "the behaviour has changed: $1 gives $2, and gave $3"; exit 1; }; }

before="$(seen)"
echo "before:          $before"
check "the stack's file" "$before" '{"instance":"db.m7g.large","multiAz":true}'

pulumi --non-interactive config set --stack dev --path database.multiAz false 2>/dev/null
set_by_path="$(seen)"
echo "config set:      $set_by_path"
check "config set --path" "$set_by_path" '{"instance":"db.m7g.large","multiAz":false}'

cp before.yaml Pulumi.dev.yaml
previewed="$(seen --config-path --config shop:database.multiAz=false)"
file="$(sed '/^encryptionsalt/d; s/^config://' Pulumi.dev.yaml | tr -s ' \n' ' ')"
echo "preview --config $previewed, and so the file:$file"
check "preview --config" "$previewed" '{"multiAz":false}'
if grep -q instance Pulumi.dev.yaml; then
	echo "the behaviour has changed: preview keeps the other property in the stack's file"
	exit 1
fi
