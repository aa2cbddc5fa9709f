package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/loja-veloz/platform/infra/slo"
)

// clock is a time for people, machine for programs.
func clock(t time.Time) string   { return t.UTC().Format("2 January 15:04:05 UTC") }
func machine(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// percent writes a share of 1 with at most three digits, and does not break before the sign.
func percent(share float64) string { return significant(100*share) + "\u00a0%" }

// significant keeps three digits, and all before the point.
func significant(x float64) string {
	if math.Abs(x) >= 100 {
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 3, 64), 64)
	if err != nil {
		return strconv.FormatFloat(x, 'g', 3, 64)
	}
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

// count writes a number of requests, which rates make fractional, with thousands apart.
func count(n float64) string {
	digits := strconv.FormatFloat(math.Round(n), 'f', 0, 64)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// span writes a duration with at most two units: 43 min 12 s.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "-" + span(-d)
	case d < time.Minute:
		return significant(d.Seconds()) + " s"
	case d < time.Hour:
		return two(d, time.Minute, "min", time.Second, "s")
	case d < day:
		return two(d, time.Hour, "h", time.Minute, "min")
	}
	return two(d, day, "d", time.Hour, "h")
}

func two(d, large time.Duration, largeName string, small time.Duration, smallName string) string {
	d = d.Round(small)
	text := fmt.Sprintf("%d %s", d/large, largeName)
	if rest := d % large / small; rest > 0 {
		text += fmt.Sprintf(" %d %s", rest, smallName)
	}
	return text
}

// seconds writes a duration of a request: 12.3 ms, 1.2 s.
func seconds(s float64) string {
	if s < 1 {
		return significant(1000*s) + " ms"
	}
	return significant(s) + " s"
}

// days writes an objective's window in words.
func days(window time.Duration) string {
	if window == 24*time.Hour {
		return "24 hours"
	}
	return strings.TrimSuffix(slo.Period(window), "d") + " days"
}

// version is what a service calls itself: the first 12 hex digits of its image's digest.
func version(image string) string {
	const length = 12
	_, digest, found := strings.Cut(image, "@sha256:")
	if !found || len(digest) < length {
		return image
	}
	return digest[:length]
}
