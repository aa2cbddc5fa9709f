package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// shell is sh -c for the command lines of initdb: a program with quoted arguments and
// redirections. initdb starts the server through a shell, and the image has no other.
func shell(args []string) error {
	if len(args) != 2 || args[0] != "-c" {
		return errors.New("this sh only runs sh -c 'program argument...', for initdb")
	}
	words, redirections, err := split(args[1])
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return errors.New("an empty command")
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

// dup makes fd a copy of another that the program inherits.
func dup(of, fd int) error { return syscall.Dup3(of, fd, 0) }

// A redirection of a file descriptor, to a file or to a copy of another descriptor.
type redirection struct {
	from  int
	to    string
	flags int
	copy  int
}

// split parses a command line. It refuses what it does not implement.
func split(line string) (words []string, redirections []redirection, err error) {
	var word strings.Builder
	inWord := false
	var pending *redirection // whose file is the next word
	end := func() {
		if !inWord {
			return
		}
		if pending != nil {
			pending.to = word.String()
			redirections = append(redirections, *pending)
			pending = nil
		} else {
			words = append(words, word.String())
		}
		word.Reset()
		inWord = false
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t', '\n':
			end()
		case '\'':
			n := strings.IndexByte(line[i+1:], '\'')
			if n < 0 {
				return nil, nil, errors.New("a quote without its end")
			}
			word.WriteString(line[i+1 : i+1+n])
			i, inWord = i+1+n, true
		case '"':
			inWord = true
			for i++; ; i++ {
				if i >= len(line) {
					return nil, nil, errors.New("a quote without its end")
				}
				if line[i] == '"' {
					break
				}
				if line[i] == '\\' && i+1 < len(line) && strings.IndexByte(`\"$`+"`", line[i+1]) >= 0 {
					i++
				} else if line[i] == '$' || line[i] == '`' {
					return nil, nil, fmt.Errorf("%q is not supported", line[i])
				}
				word.WriteByte(line[i])
			}
		case '<', '>':
			r := redirection{from: 1, flags: os.O_WRONLY | os.O_CREATE | os.O_TRUNC}
			if c == '<' {
				r = redirection{from: 0, flags: os.O_RDONLY}
			}
			if word.String() == "2" {
				r.from, inWord = 2, false
				word.Reset()
			}
			end()
			if strings.HasPrefix(line[i+1:], "&1") {
				r.copy = 1
				redirections = append(redirections, r)
				i += 2
				continue
			}
			pending = &r
		case ';', '&', '|', '(', ')', '$', '`', '*', '?', '\\', '#', '~':
			return nil, nil, fmt.Errorf("%q is not supported", c)
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	end()
	if pending != nil {
		return nil, nil, errors.New("a redirection to nowhere")
	}
	return words, redirections, nil
}
