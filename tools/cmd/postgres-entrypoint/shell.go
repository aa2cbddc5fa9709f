package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// shell implements sh -c for the command lines of initdb: one program with quoted arguments
// and redirections. initdb starts the server through a shell, and the image has no other.
func shell(args []string) error {
	if len(args) != 2 || args[0] != "-c" {
		return errors.New("this sh only runs sh -c 'program argument...', for initdb")
	}
	words, redirections, err := split(args[1])
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return errors.New("the command is empty")
	}
	program, err := exec.LookPath(words[0])
	if err != nil {
		return err
	}
	for _, r := range redirections {
		fd := r.from
		if r.to == "" {
			if err := dup(r.copy, fd); err != nil {
				return err
			}
			continue
		}
		f, err := os.OpenFile(r.to, r.flags, 0o600)
		if err != nil {
			return err
		}
		if err := dup(int(f.Fd()), fd); err != nil {
			return err
		}
	}
	return syscall.Exec(program, words, os.Environ())
}

// dup makes fd a copy of another descriptor. The program inherits fd.
func dup(of, fd int) error { return syscall.Dup3(of, fd, 0) }

// A redirection sends a file descriptor to a file or to a copy of another descriptor.
type redirection struct {
	from  int
	to    string // path of the file; empty: copy counts
	flags int    // for opening the file
	copy  int    // descriptor
}

// split parses a command line. It refuses what it does not implement.
func split(line string) ([]string, []redirection, error) {
	p := parser{rest: line}
	for p.rest != "" {
		if err := p.step(); err != nil {
			return nil, nil, err
		}
	}
	p.endWord()
	if p.pending != nil {
		return nil, nil, errors.New("a redirection has no target")
	}
	return p.words, p.redirections, nil
}

type parser struct {
	rest         string
	words        []string
	redirections []redirection
	word         strings.Builder
	inWord       bool         // a word has begun; '' begins one that is empty
	pending      *redirection // waits for its file, the next word
}

// step consumes a character, a quoted part of a word or a redirection's operator.
func (p *parser) step() error {
	c := p.rest[0]
	p.rest = p.rest[1:]
	switch c {
	case ' ', '\t', '\n':
		p.endWord()
	case '\'':
		text, rest, ok := strings.Cut(p.rest, "'")
		if !ok {
			return errNoEnd
		}
		p.word.WriteString(text)
		p.rest, p.inWord = rest, true
	case '"':
		return p.doubleQuoted()
	case '<', '>':
		p.redirection(c)
	case ';', '&', '|', '(', ')', '$', '`', '*', '?', '\\', '#', '~':
		return fmt.Errorf("%q is not supported", c)
	default:
		p.word.WriteByte(c)
		p.inWord = true
	}
	return nil
}

var errNoEnd = errors.New("a quote is not closed")

func (p *parser) doubleQuoted() error {
	p.inWord = true
	for i := 0; i < len(p.rest); i++ {
		c := p.rest[i]
		switch {
		case c == '"':
			p.rest = p.rest[i+1:]
			return nil
		case c == '\\' && i+1 < len(p.rest) && strings.IndexByte(`\"$`+"`", p.rest[i+1]) >= 0:
			i++
			c = p.rest[i]
		case c == '$' || c == '`':
			return fmt.Errorf("%q is not supported", c)
		}
		p.word.WriteByte(c)
	}
	return errNoEnd
}

func (p *parser) redirection(operator byte) {
	r := redirection{from: 1, flags: os.O_WRONLY | os.O_CREATE | os.O_TRUNC}
	if operator == '<' {
		r = redirection{from: 0, flags: os.O_RDONLY}
	}
	if p.word.String() == "2" {
		r.from, p.inWord = 2, false
		p.word.Reset()
	}
	p.endWord()
	if rest, ok := strings.CutPrefix(p.rest, "&1"); ok {
		r.copy, p.rest = 1, rest
		p.redirections = append(p.redirections, r)
		return
	}
	p.pending = &r
}

func (p *parser) endWord() {
	if !p.inWord {
		return
	}
	if p.pending != nil {
		p.pending.to = p.word.String()
		p.redirections = append(p.redirections, *p.pending)
		p.pending = nil
	} else {
		p.words = append(p.words, p.word.String())
	}
	p.word.Reset()
	p.inWord = false
}
