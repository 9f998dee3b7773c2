package fve

import "math/bits"

// roundK are the constants of SHA-256 (FIPS 180-4, 4.2.2).
var roundK = [64]uint32{
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}

// firstHash is the hash before the first block (5.3.3).
var firstHash = [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

func sum0(x uint32) uint32 {
	return bits.RotateLeft32(x, -2) ^ bits.RotateLeft32(x, -13) ^ bits.RotateLeft32(x, -22)
}

func sum1(x uint32) uint32 {
	return bits.RotateLeft32(x, -6) ^ bits.RotateLeft32(x, -11) ^ bits.RotateLeft32(x, -25)
}

func sigma0(x uint32) uint32 {
	return bits.RotateLeft32(x, -7) ^ bits.RotateLeft32(x, -18) ^ x>>3
}

func sigma1(x uint32) uint32 {
	return bits.RotateLeft32(x, -17) ^ bits.RotateLeft32(x, -19) ^ x>>10
}

// compress takes one block into the hash (FIPS 180-4, 6.2.2); w is used up. Sixteen
// rounds are written out, so that the roles of the variables need no moving.
func compress(hash *[8]uint32, w *[16]uint32) {
	a, b, c, d, e, f, g, h := hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]
	for i := 0; ; i += 16 {
		k := (*[16]uint32)(roundK[i:])
		h += sum1(e) + (g ^ e&(f^g)) + k[0] + w[0]
		d += h
		h += sum0(a) + (a&b | c&(a|b))
		g += sum1(d) + (f ^ d&(e^f)) + k[1] + w[1]
		c += g
		g += sum0(h) + (h&a | b&(h|a))
		f += sum1(c) + (e ^ c&(d^e)) + k[2] + w[2]
		b += f
		f += sum0(g) + (g&h | a&(g|h))
		e += sum1(b) + (d ^ b&(c^d)) + k[3] + w[3]
		a += e
		e += sum0(f) + (f&g | h&(f|g))
		d += sum1(a) + (c ^ a&(b^c)) + k[4] + w[4]
		h += d
		d += sum0(e) + (e&f | g&(e|f))
		c += sum1(h) + (b ^ h&(a^b)) + k[5] + w[5]
		g += c
		c += sum0(d) + (d&e | f&(d|e))
		b += sum1(g) + (a ^ g&(h^a)) + k[6] + w[6]
		f += b
		b += sum0(c) + (c&d | e&(c|d))
		a += sum1(f) + (h ^ f&(g^h)) + k[7] + w[7]
		e += a
		a += sum0(b) + (b&c | d&(b|c))
		h += sum1(e) + (g ^ e&(f^g)) + k[8] + w[8]
		d += h
		h += sum0(a) + (a&b | c&(a|b))
		g += sum1(d) + (f ^ d&(e^f)) + k[9] + w[9]
		c += g
		g += sum0(h) + (h&a | b&(h|a))
		f += sum1(c) + (e ^ c&(d^e)) + k[10] + w[10]
		b += f
		f += sum0(g) + (g&h | a&(g|h))
		e += sum1(b) + (d ^ b&(c^d)) + k[11] + w[11]
		a += e
		e += sum0(f) + (f&g | h&(f|g))
		d += sum1(a) + (c ^ a&(b^c)) + k[12] + w[12]
		h += d
		d += sum0(e) + (e&f | g&(e|f))
		c += sum1(h) + (b ^ h&(a^b)) + k[13] + w[13]
		g += c
		c += sum0(d) + (d&e | f&(d|e))
		b += sum1(g) + (a ^ g&(h^a)) + k[14] + w[14]
		f += b
		b += sum0(c) + (c&d | e&(c|d))
		a += sum1(f) + (h ^ f&(g^h)) + k[15] + w[15]
		e += a
		a += sum0(b) + (b&c | d&(b|c))
		if i == 48 {
			break
		}
		w[0] += sigma0(w[1]) + w[9] + sigma1(w[14])
		w[1] += sigma0(w[2]) + w[10] + sigma1(w[15])
		w[2] += sigma0(w[3]) + w[11] + sigma1(w[0])
		w[3] += sigma0(w[4]) + w[12] + sigma1(w[1])
		w[4] += sigma0(w[5]) + w[13] + sigma1(w[2])
		w[5] += sigma0(w[6]) + w[14] + sigma1(w[3])
		w[6] += sigma0(w[7]) + w[15] + sigma1(w[4])
		w[7] += sigma0(w[8]) + w[0] + sigma1(w[5])
		w[8] += sigma0(w[9]) + w[1] + sigma1(w[6])
		w[9] += sigma0(w[10]) + w[2] + sigma1(w[7])
		w[10] += sigma0(w[11]) + w[3] + sigma1(w[8])
		w[11] += sigma0(w[12]) + w[4] + sigma1(w[9])
		w[12] += sigma0(w[13]) + w[5] + sigma1(w[10])
		w[13] += sigma0(w[14]) + w[6] + sigma1(w[11])
		w[14] += sigma0(w[15]) + w[7] + sigma1(w[12])
		w[15] += sigma0(w[0]) + w[8] + sigma1(w[13])
	}
	hash[0] += a
	hash[1] += b
	hash[2] += c
	hash[3] += d
	hash[4] += e
	hash[5] += f
	hash[6] += g
	hash[7] += h
}
