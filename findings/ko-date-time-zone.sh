#!/usr/bin/env bash
# One would guess: ko builds reproducibly, so with the same SOURCE_DATE_EPOCH, which is a number of
# seconds since 1970 and knows no time zone, two machines build the same digest.
#
# What happens: ko writes that moment into the image's configuration in the time zone of the machine,
# 2026-01-01T01:00:00+01:00 in Berlin and 2026-01-01T00:00:00Z in London. The moment is the same and the
# text is not, so the digest of the image differs. The layers are the same.
#
# Version: github.com/google/ko v0.19.1, with a registry of github.com/google/go-containerregistry v0.21.2.
#
# How it was seen: one program is built three times on a base image in a registry on loopback, twice
# with TZ=Europe/London and once with TZ=Europe/Berlin, everything else being the same.
#
# Why it matters: a digest that a colleague or a second builder cannot reproduce proves nothing about
# where an image comes from. A CI machine runs in UTC and a laptop does not. Set TZ=UTC for the build.
#
# Output seen:
#   London, then London: the same digest
#   London, then Berlin: other digest, same layers; created 2026-01-01T00:00:00Z and 2026-01-01T01:00:00+01:00
set -euo pipefail

dir="$(mktemp -d)"
registry=""
trap '[ -z "$registry" ] || kill "$registry" 2>/dev/null; chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
export GOWORK=off GOFLAGS=-mod=mod GOBIN="$dir/bin" DOCKER_CONFIG="$dir/docker"
mkdir -p bin docker app
go install github.com/google/ko@v0.19.1
go install github.com/google/go-containerregistry/cmd/crane@v0.21.2

bin/crane registry serve --address 127.0.0.1:0 >serve.log 2>&1 &
registry=$!
port=""
for _ in $(seq 600); do
	port="$(sed -nE 's/.*port ([0-9]+).*/\1/p' serve.log | head -n 1)"
	[ -z "$port" ] || break
	kill -0 "$registry" || { cat serve.log; exit 1; }
	sleep 0.1
done
[ -n "$port" ] || { echo "the registry names no port:"; cat serve.log; exit 1; }
host="localhost:$port"

tar -cf empty.tar --files-from /dev/null
bin/crane append --oci-empty-base --new_layer empty.tar --new_tag "$host/base:1" --platform linux/amd64 >/dev/null 2>&1
bin/crane mutate "$host/base:1" --set-platform linux/amd64 --tag "$host/base:1" >/dev/null 2>&1

cd app
printf 'module example.com/app\ngo 1.25.0\n' >go.mod
printf 'package main\n\nfunc main() {}\n' >main.go
build() {
	TZ="$1" SOURCE_DATE_EPOCH=1767225600 KO_DOCKER_REPO="$host/app" KO_DEFAULTBASEIMAGE="$host/base:1" CGO_ENABLED=0 \
		../bin/ko build --bare --platform linux/amd64 --sbom none . 2>../ko.log || { cat ../ko.log >&2; exit 1; }
}
first="$(build Europe/London)"
again="$(build Europe/London)"
other="$(build Europe/Berlin)"

layers() { ../bin/crane manifest "$1" | grep -oE '"digest":"sha256:[0-9a-f]{64}"' | tail -n +2; }
created() { ../bin/crane config "$1" | grep -oE '"created":"[^"]*"' | head -n 1 | cut -d '"' -f 4; }

[ "$first" = "$again" ] || { echo "the behaviour has changed: two builds in London differ: $first, $again"; exit 1; }
echo "London, then London: the same digest"
[ "$first" != "$other" ] || { echo "the behaviour has changed: London and Berlin build the same digest"; exit 1; }
[ "$(layers "$first")" = "$(layers "$other")" ] || { echo "the behaviour has changed: the layers differ too"; exit 1; }
echo "London, then Berlin: other digest, same layers; created $(created "$first") and $(created "$other")"
