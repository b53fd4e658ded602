package main

import (
	"maps"
	"testing"
)

func TestMedians(t *testing.T) {
	g := group{columns: []column{{key: "rate"}, {key: "failed", worst: true}, {key: "nowhere"}}}
	got := g.medians([]figures{{"rate": 3, "failed": 0}, {"rate": 1, "failed": 2}, {"rate": 2, "failed": 1}})
	if want := (figures{"rate": 2, "failed": 2}); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := g.medians([]figures{{"rate": 3}, {"rate": 1}})["rate"]; got != 2 {
		t.Error(got)
	}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		names []string
		real  bool
		rows  int // -1 for an error
	}{
		{nil, false, 21},
		{nil, true, 23},
		{[]string{"far", "fair/8"}, false, 6},
		{[]string{"far/nowhere"}, false, -1},
		{[]string{"cpu"}, false, -1},
		{[]string{"cpu"}, true, 2},
	} {
		chosen, err := choose(c.names, c.real)
		rows := 0
		for _, g := range chosen {
			rows += len(g.rows)
		}
		if err != nil {
			rows = -1
		}
		if rows != c.rows {
			t.Errorf("%v gives %d rows, want %d: %v", c.names, rows, c.rows, err)
		}
	}
}
