// Standin serves the stand-in for Stripe on a loopback address, for tests that run the shop
// as processes, and prints its URL. It is not Stripe and proves nothing about it: see
// package stripetest. What stripe-mock prints goes to standard error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/stripe/stripetest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	out := os.Stdout
	os.Stdout = os.Stderr // stripe-mock prints each request
	err := run(ctx, os.Args[1:], out)
	stop()
	if err != nil {
		log.Fatalf("standin: %v", err)
	}
}

// run serves until the context ends. It prints the URL, a line, when it listens.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("standin", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "loopback `address` to listen on; port 0 means any free one")
	options := stripetest.Options{Log: log.Printf}
	flags.StringVar(&options.APIKey, "api-key", "", "secret `key` that the API accepts, sk_test_... (required)")
	flags.StringVar(&options.PublishableKey, "publishable-key", "", "`key` that the script accepts, pk_test_...; none by default")
	flags.StringVar(&options.WebhookURL, "webhook-url", "", "`URL` that gets the events; by default they are only listed")
	flags.StringVar(&options.WebhookSecret, "webhook-secret", "", "`secret` that signs the events; required with -webhook-url")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	address, err := net.ResolveTCPAddr("tcp", *listen)
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	// Anyone who reaches the control endpoints controls the stand-in.
	if !address.IP.IsLoopback() {
		return fmt.Errorf("-listen: %s is not a loopback address", *listen)
	}
	standIn, err := stripetest.New(options)
	if err != nil {
		return err
	}
	defer standIn.Close()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address.String())
	if err != nil {
		return err
	}
	server := &http.Server{Handler: standIn, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() }) // a request that it interrupts belongs to a test that has ended
	fmt.Fprintf(out, "http://%s\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
