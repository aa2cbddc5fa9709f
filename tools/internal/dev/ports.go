package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/tools/internal/process"
)

// choosePorts gives each program its port, and fails if one is in use. It reports all
// errors at once.
func (s *Shop) choosePorts(ctx context.Context) error {
	names := append([]string{PostgreSQL}, catalogue.Names(s.declared)...)
	if s.options.Telemetry {
		names = append(names, Jaeger, otlpHTTP, otlpGRPC, Prometheus)
	}
	var errs []error
	var listeners []net.Listener // open until all ports are chosen, so that none is chosen twice
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	for _, name := range names {
		l, err := reserve(ctx, name, s.options.Ports[name], answers)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		listeners = append(listeners, l)
		s.ports[name] = l.Addr().(*net.TCPAddr).Port
	}
	return errors.Join(errs...)
}

// reserve listens on a program's port of 127.0.0.1; port 0 takes a free one. A port that
// can be bound may be in use all the same: kube-proxy redirects connections to a node port
// by iptables and listens on nothing. Therefore reserve also fails if answers reports that
// something accepts connections to the port.
func reserve(ctx context.Context, name string, port int, answers func(context.Context, string) bool) (net.Listener, error) {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	answered := port != 0 && answers(ctx, address) // before this process listens there itself
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", address)
	needs := fmt.Sprintf("port %d on 127.0.0.1, which %s needs, ", port, name)
	another := fmt.Sprintf("set %s to another port", portVariable(name))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		by := process.Holder(port)
		if by == "" {
			by = "a process of another user"
		}
		return nil, fmt.Errorf("%sis taken by %s: stop that process, or %s", needs, by, another)
	case err != nil:
		return nil, fmt.Errorf("%scannot be used: %w; %s", needs, err, another)
	case answered:
		return nil, errors.Join(fmt.Errorf("%sanswers already, although no process listens on it; perhaps the local cluster "+
			"serves it, for example its Prometheus: %s, or stop the cluster with `make down`", needs, another), l.Close())
	}
	return l, nil
}

// answers reports whether something accepts connections at the address.
func answers(ctx context.Context, address string) bool {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp4", address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
