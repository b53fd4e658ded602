package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// column is a figure of a group's rows.
type column struct {
	key    string // in JSON
	title  string
	digits int
	worst  bool // shows the worst round, the one with the greatest figure
}

// line is a row of a table with its results.
type line struct {
	Row     string    `json:"row"`
	About   string    `json:"about"`
	Build   string    `json:"build,omitempty"`
	Figures figures   `json:"figures"`
	Notes   []string  `json:"notes,omitempty"` // mostly errors
	Rounds  []figures `json:"rounds"`
}

// medians combines the figures of several rounds.
func (g group) medians(rounds []figures) figures {
	sum := figures{}
	for _, c := range g.columns {
		var values []float64
		for _, round := range rounds {
			if value, ok := round[c.key]; ok {
				values = append(values, value)
			}
		}
		if len(values) == 0 {
			continue
		}
		slices.Sort(values)
		half := len(values) / 2
		switch {
		case c.worst:
			sum[c.key] = values[len(values)-1]
		case len(values)%2 == 1:
			sum[c.key] = values[half]
		default:
			sum[c.key] = (values[half-1] + values[half]) / 2
		}
	}
	return sum
}

// print prints the lines of a group.
func (g group) print(lines []line, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(os.Stdout)
		for _, l := range lines {
			if err := encoder.Encode(l); err != nil {
				return err
			}
		}
		return nil
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	builds := slices.ContainsFunc(lines, func(l line) bool { return l.Build != "" })
	titles := []string{"row", ""}
	if builds {
		titles = append(titles, "build")
	}
	for _, c := range g.columns {
		if c.worst {
			c.title += "!"
		}
		titles = append(titles, c.title)
	}
	fmt.Fprintln(table, strings.Join(titles, "\t"))
	for _, l := range lines {
		cells := []string{l.Row, l.About}
		if builds {
			cells = append(cells, l.Build)
		}
		for _, c := range g.columns {
			cell := ""
			if value, ok := l.Figures[c.key]; ok {
				cell = strconv.FormatFloat(value, 'f', c.digits, 64)
			}
			cells = append(cells, cell)
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, l := range lines {
		for _, note := range l.Notes {
			fmt.Println(strings.TrimSpace(l.Row+" "+l.Build)+":", note)
		}
	}
	fmt.Println()
	return nil
}

// elsewhere runs a row once in another build of this command.
func elsewhere(ctx context.Context, o options, row string) (figures, []string, error) {
	args := []string{"-json", "-rounds", "1", "-for", o.span.String(), "-addresses", strconv.Itoa(o.addresses), "-idle", o.idle.String(),
		"-real=" + strconv.FormatBool(o.real), row}
	output, err := exec.CommandContext(ctx, o.beside, args...).Output()
	if failed, ok := err.(*exec.ExitError); ok {
		return nil, nil, fmt.Errorf("%s: %w: %s", o.beside, err, failed.Stderr)
	}
	if err != nil {
		return nil, nil, err
	}
	var l line
	if err := json.Unmarshal(output, &l); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", o.beside, err)
	}
	return l.Figures, l.Notes, nil
}
