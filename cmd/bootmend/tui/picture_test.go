package tui

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/gomonobold"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// pictures is where the README's are.
var pictures = func() string { dir, _ := filepath.Abs("../../../assets/pictures"); return dir }()

// The size of the pictures: that of the smallest terminal, and a border.
const (
	columns, rows         = 80, 24
	cellWidth, cellHeight = 10, 20
	border, baseline      = 14, 15
	fontSize              = 16
	tolerance             = 0x20 // of a colour: processors round differently
)

// The colours of a terminal with a dark background, by their number in SGR (ECMA-48, 8.3.117).
var (
	background = color.RGBA{0x1d, 0x1f, 0x21, 0xff}
	foreground = color.RGBA{0xd8, 0xd8, 0xd8, 0xff}
	faint      = color.RGBA{0x96, 0x9a, 0x9e, 0xff}
	numbered   = map[int]color.RGBA{31: {0xff, 0x6b, 0x63, 0xff}, 32: {0x8f, 0xd4, 0x60, 0xff}, 36: {0x6c, 0xc7, 0xd8, 0xff}}
)

// picture compares the README's picture of a golden screen with what the screen looks like on a terminal with 16 colours.
func (d *driver) picture(name string) *driver {
	d.t.Helper()
	want, err := os.ReadFile(filepath.Join(golden, name+".txt"))
	if err != nil {
		d.t.Fatal(err)
	}
	if d.text()+"\n" != string(want) {
		d.t.Fatalf("the picture would not be of the golden screen %s", name)
	}
	lipgloss.SetColorProfile(termenv.ANSI)
	defer lipgloss.SetColorProfile(termenv.Ascii)
	got := paintScreen(d.t, d.s.View())
	path := filepath.Join(pictures, "wizard-"+name+".png")
	if *update {
		var b bytes.Buffer
		encoder := png.Encoder{CompressionLevel: png.BestCompression}
		if err := encoder.Encode(&b, got); err != nil {
			d.t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	kept, err := png.Decode(f)
	if err != nil {
		d.t.Fatal(err)
	}
	if kept.Bounds() != got.Bounds() {
		d.t.Fatalf("%s has the size %v, want %v", path, kept.Bounds(), got.Bounds())
	}
	for y := range got.Rect.Dy() {
		for x := range got.Rect.Dx() {
			if a, b := got.RGBAAt(x, y), color.RGBAModel.Convert(kept.At(x, y)).(color.RGBA); differ(a.R, b.R) || differ(a.G, b.G) || differ(a.B, b.B) {
				d.t.Fatalf("%s is not the screen as it is now, at %d,%d: -update paints it anew; look at it then", path, x, y)
			}
		}
	}
	return d
}

func differ(a, b uint8) bool { return max(a, b)-min(a, b) > tolerance }

// paintScreen draws what a terminal would.
func paintScreen(t *testing.T, screen string) *image.RGBA {
	t.Helper()
	face := func(ttf []byte) font.Face {
		f, err := opentype.Parse(ttf)
		if err != nil {
			t.Fatal(err)
		}
		face, err := opentype.NewFace(f, &opentype.FaceOptions{Size: fontSize, DPI: 72, Hinting: font.HintingFull})
		if err != nil {
			t.Fatal(err)
		}
		return face
	}
	thin, bold := face(gomono.TTF), face(gomonobold.TTF)
	img := image.NewRGBA(image.Rect(0, 0, columns*cellWidth+2*border, rows*cellHeight+2*border))
	draw.Draw(img, img.Rect, image.NewUniform(background), image.Point{}, draw.Src)
	for row, line := range strings.Split(screen, "\n") {
		drawer := font.Drawer{Dst: img, Face: thin}
		ink, reverse := foreground, false
		for column := 0; line != ""; {
			if code, rest, ok := strings.Cut(strings.TrimPrefix(line, "\x1b["), "m"); ok && strings.HasPrefix(line, "\x1b[") {
				line = rest
				for number := range strings.SplitSeq(code, ";") {
					switch n, _ := strconv.Atoi(number); n {
					case 0:
						ink, reverse, drawer.Face = foreground, false, thin
					case 1:
						drawer.Face = bold
					case 2:
						ink = faint
					case 7:
						reverse = true
					default:
						known := false
						if ink, known = numbered[n]; !known {
							t.Fatalf("the screen has the attribute %d", n)
						}
					}
				}
				continue
			}
			r := []rune(line)[0]
			line = line[len(string(r)):]
			at := image.Pt(border+column*cellWidth, border+row*cellHeight)
			paper := background
			if reverse {
				paper, ink = ink, paper
				draw.Draw(img, image.Rect(at.X, at.Y, at.X+cellWidth, at.Y+cellHeight), image.NewUniform(paper), image.Point{}, draw.Src)
			}
			drawer.Src, drawer.Dot = image.NewUniform(ink), fixed.P(at.X, at.Y+baseline)
			drawer.DrawString(string(r))
			if reverse {
				ink = paper
			}
			column++
		}
	}
	return img
}
