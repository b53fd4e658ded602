package main

import (
	"image/color"
	"os"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// panel is one of the charts, which are drawn side by side.
type panel struct {
	title string
	scale float64
	bars  []bar
}

// bar is a group of three bars, one for each client.
type bar struct {
	label, benchmark, unit string
	inverse                bool // show the inverse of the measured time
}

var panels = []panel{
	{"Thousand calls a second", 1e-3, []bar{
		{"one at a time", "Call/Members", "sec/op", true},
		{"16 goroutines", "Parallel/goroutines=16", "calls/s", false},
		{"64", "Parallel/goroutines=64", "calls/s", false},
		{"1,000", "Parallel/goroutines=1000", "calls/s", false},
	}},
	{"kB allocated for a call", 1e-3, []bar{
		{"Members", "Call/Members", "B/op", false},
		{"Health", "Call/Health", "B/op", false},
		{"Self", "Call/Self", "B/op", false},
	}},
	{"ms to decode", 1e3, []bar{
		{"1,000 members", "Decode/members=1000", "sec/op", false},
	}},
}

var clients = []struct {
	name, label string
	color       color.Color
}{
	{ours, "this library", color.NRGBA{0x00, 0x8a, 0x6a, 0xff}},
	{official, "official client", color.NRGBA{0xb8, 0xbc, 0xc4, 0xff}},
	{floor, "bare net/http", color.NRGBA{0x5a, 0x64, 0x73, 0xff}},
}

// drawChart writes the chart as SVG.
func drawChart(r *results, file string) error {
	plots := make([]*plot.Plot, 0, len(panels))
	for i, panel := range panels {
		p := plot.New()
		p.Title.Text = panel.title
		p.Title.Padding = vg.Points(6)
		for _, style := range []*font.Font{&p.Title.TextStyle.Font, &p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font} {
			style.Variant = "Sans"
		}
		p.Title.TextStyle.Font.Size = vg.Points(11)
		p.Y.Min = 0
		for _, style := range []*font.Length{&p.X.LineStyle.Width, &p.X.Tick.LineStyle.Width, &p.Y.Tick.LineStyle.Width, &p.Y.LineStyle.Width} {
			*style = 0
		}
		grid := plotter.NewGrid()
		grid.Vertical.Width = 0
		grid.Horizontal.Color = color.Gray{0xe4}
		p.Add(grid)
		labels := make([]string, len(panel.bars))
		const width = 15
		for j, client := range clients {
			values := make(plotter.Values, len(panel.bars))
			for k, bar := range panel.bars {
				labels[k] = bar.label
				value := summary(r.values[key{bar.benchmark, bar.unit, client.name}]).Center
				if bar.inverse && value > 0 {
					value = 1 / value
				}
				values[k] = value * panel.scale
			}
			bars, err := plotter.NewBarChart(values, vg.Points(width))
			if err != nil {
				return err
			}
			bars.Color = client.color
			bars.LineStyle.Width = 0
			bars.Offset = vg.Points(float64(j-1) * (width + 1))
			p.Add(bars)
			if i == 0 {
				p.Legend.Add(client.label, bars)
			}
		}
		p.Legend.Top, p.Legend.Left = true, true
		p.Legend.Padding = vg.Points(3)
		p.Y.Max *= 1.35 // room for the legend
		p.Y.Tick.Marker = plot.TickerFunc(wholeTicks)
		p.NominalX(labels...)
		plots = append(plots, p)
	}
	canvas := vgsvg.New(vg.Points(720), vg.Points(250))
	area := draw.New(canvas)
	// The width of a panel depends on its number of bars.
	share := func(p panel) vg.Length { return vg.Length(len(p.bars)) + .8 }
	total := vg.Length(0)
	for _, panel := range panels {
		total += share(panel)
	}
	whole := area.Rectangle.Size().X
	left := vg.Length(0)
	for i, p := range plots {
		width := whole * share(panels[i]) / total
		p.Draw(draw.Crop(area, left, left+width-whole-vg.Points(12), 0, -vg.Points(4)))
		left += width
	}
	output, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(output); err != nil {
		output.Close()
		return err
	}
	return output.Close()
}

// wholeTicks returns the default ticks, labeled with as few digits as possible.
func wholeTicks(low, high float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(low, high)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = strconv.FormatFloat(ticks[i].Value, 'g', 4, 64)
		}
	}
	return ticks
}
