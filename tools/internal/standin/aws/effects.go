package aws

import "strings"

// An Effect is what a change of a property does to its object.
type Effect int

// The effects. MayReplace is that of a property in no table.
const (
	Updates Effect = iota
	Replaces
	MayReplace
)

// EffectOf returns the effect of a change at a path, whose indices it ignores.
func EffectOf(token, path string) Effect {
	path = withoutIndices(path)
	root, _, _ := strings.Cut(path, ".")
	if root == "tags" || root == "tagsAll" {
		return Updates
	}
	t, ok := types[token]
	if !ok {
		return MayReplace
	}
	replace, update := strings.Fields(t.replace), strings.Fields(t.update)
	byReplace, byUpdate := longestCover(replace, path), longestCover(update, path)
	switch {
	case byReplace > byUpdate:
		return Replaces
	case byUpdate > byReplace:
		return Updates
	}
	return effectOfParts(replace, update, path)
}

// longestCover is the length of the longest of the paths that covers a path, 0 if none does.
func longestCover(paths []string, path string) int {
	longest := 0
	for _, p := range paths {
		if (p == path || strings.HasPrefix(path, p+".")) && len(p) > longest {
			longest = len(p)
		}
	}
	return longest
}

// effectOfParts is the effect of adding or removing a whole object: the worst of its parts'.
func effectOfParts(replace, update []string, path string) Effect {
	switch {
	case holdsPart(replace, path):
		return Replaces
	case holdsPart(update, path):
		return Updates
	}
	return MayReplace
}

func holdsPart(paths []string, path string) bool {
	for _, p := range paths {
		if strings.HasPrefix(p, path+".") {
			return true
		}
	}
	return false
}

// withoutIndices turns ingress[0].cidrBlocks[1] into ingress.cidrBlocks.
func withoutIndices(path string) string {
	var b strings.Builder
	depth := 0
	for _, r := range path {
		switch {
		case r == '[':
			depth++
		case r == ']':
			depth--
		case depth == 0:
			b.WriteRune(r)
		}
	}
	return b.String()
}
