package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/apps/catalogue"
)

// validate reports unknown programs, missing images and unknown words. The components check
// ranges, and the targets check what AWS needs or only AWS has.
func (c *Config) validate(programs *catalogue.Catalogue) error {
	var errs []error
	sizes, images := services(programs), programs.Images()
	for _, name := range slices.Sorted(maps.Keys(c.Images)) {
		if !slices.Contains(images, name) {
			errs = append(errs, fmt.Errorf("%s:images.%s is for no program of this environment; known are %s",
				Namespace, name, strings.Join(images, ", ")))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		if _, known := sizes[name]; !known {
			errs = append(errs, fmt.Errorf("%s:services.%s is for no service of this environment; known are %s",
				Namespace, name, strings.Join(slices.Sorted(maps.Keys(sizes)), ", ")))
		}
	}
	for _, name := range images {
		switch program, _ := programs.Program(name); {
		case program.Kind == catalogue.Platform: // a target that does not install it needs no image
			continue
		case c.Delivery.Mode == GitOps && (program.Kind == catalogue.Service || program.Kind == catalogue.CronJob): // it is in git
			continue
		}
		if c.Images[name] == "" {
			errs = append(errs, fmt.Errorf("%s:images.%s is missing: run make deploy, or "+
				"pulumi config set --path '%s:images.%s' REGISTRY/%s@sha256:DIGEST", Namespace, name, Namespace, name, name))
		}
	}
	errs = append(errs, c.validateShop()...)
	errs = append(errs, c.validateDelivery()...)
	if c.Cloud.Provider != "none" && c.Cloud.Provider != "aws" {
		errs = append(errs, fmt.Errorf("%s:cloud.provider is %q: use none or aws", Namespace, c.Cloud.Provider))
	}
	if c.RolloutTimeoutSeconds < 0 {
		errs = append(errs, fmt.Errorf("%s:rolloutTimeoutSeconds is %d: it cannot be negative", Namespace, c.RolloutTimeoutSeconds))
	}
	return errors.Join(append(errs, c.checkReferences(programs))...)
}

// validateShop checks the settings that have the same values for every target.
func (c *Config) validateShop() []error {
	var errs []error
	if !slices.Contains([]string{"simulator", "stripe"}, c.Shop.Acquirer) {
		errs = append(errs, fmt.Errorf("%s:shop.acquirer is %q: use simulator or stripe", Namespace, c.Shop.Acquirer))
	}
	if !slices.Contains([]string{"off", "jwt", "api-key"}, c.Shop.Auth) {
		errs = append(errs, fmt.Errorf("%s:shop.auth is %q: use off, api-key or jwt", Namespace, c.Shop.Auth))
	}
	if !slices.Contains([]string{"off", "public"}, c.Shop.Webhooks) {
		errs = append(errs, fmt.Errorf("%s:shop.webhooks is %q: use off or public", Namespace, c.Shop.Webhooks))
	}
	if c.Cloud.Provider == "aws" && c.Shop.Webhooks == "public" && c.Shop.Auth == "off" {
		errs = append(errs, fmt.Errorf("%s:shop.webhooks is public and shop.auth is off, so that everybody could change the endpoints of "+
			"others and have requests sent to any public host: with cloud.provider aws use shop.auth api-key or jwt, or shop.webhooks off",
			Namespace))
	}
	if err := c.validatePublishableKey(); err != nil {
		errs = append(errs, fmt.Errorf("%s:shop.stripePublishableKey %w", Namespace, err))
	}
	return errs
}

// validateDelivery checks who applies the services' objects, and what the other one would need.
func (c *Config) validateDelivery() []error {
	d := c.Delivery
	switch {
	case d.Mode == Pulumi:
		return nil
	case d.Mode != GitOps:
		return []error{fmt.Errorf("%s:delivery.mode is %q: use pulumi or gitops", Namespace, d.Mode)}
	case d.Git.URL == "":
		return []error{fmt.Errorf("%s:delivery.git.url is missing: delivery.mode is gitops", Namespace)}
	}
	return nil
}

// validatePublishableKey returns errors without the value: it may be a secret key.
func (c *Config) validatePublishableKey() error {
	key := c.Shop.StripePublishableKey
	test, live := strings.HasPrefix(key, "pk_test_"), strings.HasPrefix(key, "pk_live_")
	switch {
	case key == "":
		return nil
	case strings.HasPrefix(key, "sk_"), strings.HasPrefix(key, "rk_"):
		return errors.New("is a secret key, which every page would show: use the publishable key, " +
			"and roll this one in Stripe's dashboard")
	case c.Shop.Acquirer == "simulator":
		return errors.New("is set: leave it out while shop.acquirer is simulator")
	case !test && !live:
		return errors.New("does not begin with pk_live_ or pk_test_: use the publishable key of the Stripe account")
	case test && c.Cloud.Protected:
		return errors.New("begins with pk_test_, and cloud.protected is true: use the key of live mode, which begins with pk_live_")
	}
	return nil
}
