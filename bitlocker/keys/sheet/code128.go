package sheet

import (
	"fmt"
	"strings"
)

// Symbols of Code 128 (ISO/IEC 15417, table 1): the widths of three bars and three
// spaces in modules, 11 in all. Code set C holds two digits a symbol.
var symbols = strings.Fields(`
	212222 222122 222221 121223 121322 131222 122213 122312 132212 221213 221312 231212 112232 122132 122231 113222
	123122 123221 223211 221132 221231 213212 223112 312131 311222 321122 321221 312212 322112 322211 212123 212321
	232121 111323 131123 131321 112313 132113 132311 211313 231113 231311 112133 112331 132131 113123 113321 133121
	313121 211331 231131 213113 213311 213131 311123 311321 331121 312113 312311 332111 314111 221411 431111 111224
	111422 121124 121421 141122 141221 112214 112412 122114 122411 142112 142211 241211 221114 413111 241112 134111
	111242 121142 121241 114212 124112 124211 411212 421112 421211 212141 214121 412121 111143 111341 131141 114113
	114311 411113 411311 113141 114131 311141 411131 211412 211214 211232`)

const (
	startC   = 105
	stop     = "2331112"
	quiet128 = 10 // modules
	checkMod = 103
)

// bars makes a Code 128 symbol of an even number of digits.
func bars(digits string) *figure {
	values := []int{startC}
	check := startC
	for i := 0; i+1 < len(digits); i += 2 {
		v := int(digits[i]-'0')*10 + int(digits[i+1]-'0')
		values = append(values, v)
		check += v * (i/2 + 1)
	}
	values = append(values, check%checkMod)
	var widths strings.Builder
	for _, v := range values {
		widths.WriteString(symbols[v])
	}
	widths.WriteString(stop)
	var path strings.Builder
	x := quiet128
	for i, c := range widths.String() {
		w := int(c - '0')
		if i%2 == 0 {
			fmt.Fprintf(&path, "M%d 0h%dv1h-%dz", x, w, w)
		}
		x += w
	}
	return &figure{x + quiet128, 1, path.String()}
}
