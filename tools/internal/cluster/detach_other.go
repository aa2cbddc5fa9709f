//go:build !linux

package cluster

import "errors"

func detach(string) error { return errors.ErrUnsupported }
