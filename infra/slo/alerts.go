package slo

import (
	"errors"
	"fmt"
	"time"
)

// An Alert fires while a service burns its budget Burn times as fast as its window allows,
// over the long and over the short window: the long one keeps a spike from paging, the
// short one ends the alert soon after the fault (Google, "The Site Reliability Workbook",
// chapter 5, https://sre.google/workbook/alerting-on-slos/).
type Alert struct {
	Severity    string // page or ticket
	Burn        float64
	Long, Short time.Duration
}

// Share is how much of the budget is gone when the alert fires, in percent, if the burn
// rate was constant.
func (a Alert) Share(window time.Duration) float64 {
	return 100 * a.Burn * float64(a.Long) / float64(window)
}

// alerts are those of an objective over a window. The rates for a month are the
// workbook's; for a week and a day the windows are shorter, so that an alert fires before
// the budget is gone. A short window has at least a minute: twelve scrapes.
var alerts = map[time.Duration][4]Alert{
	30 * day: {
		{"page", 14.4, time.Hour, 5 * time.Minute}, {"page", 6, 6 * time.Hour, 30 * time.Minute},
		{"ticket", 3, day, 2 * time.Hour}, {"ticket", 1.2, 3 * day, 6 * time.Hour},
	},
	28 * day: {
		{"page", 14.4, time.Hour, 5 * time.Minute}, {"page", 6, 6 * time.Hour, 30 * time.Minute},
		{"ticket", 3, day, 2 * time.Hour}, {"ticket", 1.2, 3 * day, 6 * time.Hour},
	},
	7 * day: {
		{"page", 14.4, 30 * time.Minute, 3 * time.Minute}, {"page", 6, 2 * time.Hour, 10 * time.Minute},
		{"ticket", 3, 8 * time.Hour, 40 * time.Minute}, {"ticket", 1.5, day, 2 * time.Hour},
	},
	day: {
		{"page", 14.4, 10 * time.Minute, time.Minute}, {"page", 6, 30 * time.Minute, 3 * time.Minute},
		{"ticket", 3, 2 * time.Hour, 10 * time.Minute}, {"ticket", 1.5, 4 * time.Hour, 20 * time.Minute},
	},
}

// Alerts are the four of the objective: two that page, and two that open a ticket.
func (o Objective) Alerts() [4]Alert { return alerts[o.Window] }

// checkAlerts refuses an alert that fires although the budget lasts, or after it is gone.
func (o Objective) checkAlerts() error {
	var errs []error
	for _, a := range o.Alerts() {
		if a.Burn <= 1 {
			errs = append(errs, fmt.Errorf("%s: an alert at %v times the allowed rate fires although the budget lasts", o.Name, a.Burn))
		}
		if a.Burn*o.Tolerated >= 1 {
			errs = append(errs, fmt.Errorf("%s: an alert at %v times the allowed rate never fires: %v %% of bad requests are more than all",
				o.Name, a.Burn, 100*a.Burn*o.Tolerated))
		}
		if share := a.Share(o.Window); share > 50 {
			errs = append(errs, fmt.Errorf("%s: an alert fires after %.0f %% of the budget is gone", o.Name, share))
		}
	}
	return errors.Join(errs...)
}

// Rates are the PromQL expressions of a service's bad and all requests per second, over a
// range. Without a request in it the second one has no value, and so has their ratio:
// 0/0 would be NaN, and spoil every average that contains it.
func (o Objective) Rates(service, window string) (bad, total string) {
	bad, total = o.Indicator.counts(service, "", "rate", window, "")
	return bad, "(" + total + " > 0)"
}
