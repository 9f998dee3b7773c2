#include "textflag.h"

// The key stretch for processors without SHA instructions: Intel's before 2019 and emulated ones. The message schedule of
// the second block of 88 bytes does not depend on the last hash, so it is made for eight counts at a time. The sixteen words
// of the first block's schedule lie in the lowest parts of X0 to X15, which are nearer than memory.

// func expand8(w, wk *[64][8]uint32)
//
// Rows 16 to 63 of w (FIPS 180-4, 6.2.2, step 1), and all rows of wk, which is w with the round's constant added.
TEXT ·expand8(SB), NOSPLIT, $0-16
	MOVQ w+0(FP), DI
	MOVQ wk+8(FP), SI
	LEAQ ·roundK(SB), BX
	MOVQ $16, CX

copied:
	VPBROADCASTD (BX), Y0
	VPADDD (DI), Y0, Y0
	VMOVDQU Y0, (SI)
	ADDQ $4, BX
	ADDQ $32, DI
	ADDQ $32, SI
	DECQ CX
	JNZ copied
	MOVQ $48, CX

expanded:
	VMOVDQU -480(DI), Y0 // sigma0 of the word 15 before
	VPSRLD $7, Y0, Y1
	VPSLLD $25, Y0, Y2
	VPXOR Y1, Y2, Y1
	VPSRLD $18, Y0, Y2
	VPXOR Y1, Y2, Y1
	VPSLLD $14, Y0, Y2
	VPXOR Y1, Y2, Y1
	VPSRLD $3, Y0, Y2
	VPXOR Y1, Y2, Y1
	VPADDD -512(DI), Y1, Y1
	VPADDD -224(DI), Y1, Y1
	VMOVDQU -64(DI), Y0 // sigma1 of the word 2 before
	VPSRLD $17, Y0, Y3
	VPSLLD $15, Y0, Y2
	VPXOR Y3, Y2, Y3
	VPSRLD $19, Y0, Y2
	VPXOR Y3, Y2, Y3
	VPSLLD $13, Y0, Y2
	VPXOR Y3, Y2, Y3
	VPSRLD $10, Y0, Y2
	VPXOR Y3, Y2, Y3
	VPADDD Y1, Y3, Y1
	VMOVDQU Y1, (DI)
	VPBROADCASTD (BX), Y0
	VPADDD Y1, Y0, Y0
	VMOVDQU Y0, (SI)
	ADDQ $4, BX
	ADDQ $32, DI
	ADDQ $32, SI
	DECQ CX
	JNZ expanded
	VZEROUPPER
	RET

// SCHEDULE leaves the next word of the first block's schedule in w0 and in R10 (6.2.2, step 1).
#define SCHEDULE(w0, w1, w9, w14) \
	MOVD w1, R10 \
	RORXL $7, R10, R11 \
	RORXL $18, R10, R14 \
	SHRL $3, R10 \
	XORL R11, R10 \
	XORL R14, R10 \
	MOVD w9, R11 \
	ADDL R11, R10 \
	MOVD w0, R11 \
	ADDL R11, R10 \
	MOVD w14, R11 \
	RORXL $2, R11, R14 \
	XORL R11, R14 \
	RORXL $17, R14, R14 \
	SHRL $10, R11 \
	XORL R14, R11 \
	ADDL R11, R10 \
	MOVD R10, w0

// ROUND is step 3 of 6.2.2 but for the addition of constant and word to h. ab becomes a xor b; bc is that of the round before.
#define ROUND(a, b, c, d, e, f, g, h, ab, bc) \
	RORXL $6, e, R10 \
	RORXL $11, e, R11 \
	XORL R11, R10 \
	RORXL $25, e, R11 \
	XORL R11, R10 \
	ADDL R10, h \
	MOVL f, R11 \
	XORL g, R11 \
	ANDL e, R11 \
	XORL g, R11 \
	ADDL R11, h \
	ADDL h, d \
	RORXL $2, a, R10 \
	RORXL $13, a, R11 \
	XORL R11, R10 \
	RORXL $22, a, R11 \
	XORL R11, R10 \
	ADDL R10, h \
	MOVL a, ab \
	XORL b, ab \
	ANDL ab, bc \
	XORL b, bc \
	ADDL bc, h

// WORD is a round of the first block with a word and the constant k; NEXT makes that word before. MADE is one of the second
// block, at a place in wk.
#define WORD(w, k, a, b, c, d, e, f, g, h, ab, bc) \
	MOVD w, R10 \
	LEAL k(h)(R10*1), h \
	ROUND(a, b, c, d, e, f, g, h, ab, bc)

#define NEXT(w0, w1, w9, w14, k, a, b, c, d, e, f, g, h, ab, bc) \
	SCHEDULE(w0, w1, w9, w14) \
	LEAL k(h)(R10*1), h \
	ROUND(a, b, c, d, e, f, g, h, ab, bc)

#define MADE(at, a, b, c, d, e, f, g, h, ab, bc) \
	ADDL at(R15), h \
	ROUND(a, b, c, d, e, f, g, h, ab, bc)

// func stretchScalar(lane *lane, wk *[64][8]uint32, rounds uint64)
//
// At most eight rounds, one for each column of wk.
TEXT ·stretchScalar(SB), NOSPLIT, $0-24
	MOVQ lane+0(FP), R11
	MOVQ wk+8(FP), R15
	MOVL 0(R11), R10
	MOVD R10, X0
	MOVL 4(R11), R10
	MOVD R10, X1
	MOVL 8(R11), R10
	MOVD R10, X2
	MOVL 12(R11), R10
	MOVD R10, X3
	MOVL 16(R11), R10
	MOVD R10, X4
	MOVL 20(R11), R10
	MOVD R10, X5
	MOVL 24(R11), R10
	MOVD R10, X6
	MOVL 28(R11), R10
	MOVD R10, X7

next:
	MOVQ lane+0(FP), R11
	MOVL 32(R11), R10
	MOVD R10, X8
	MOVL 36(R11), R10
	MOVD R10, X9
	MOVL 40(R11), R10
	MOVD R10, X10
	MOVL 44(R11), R10
	MOVD R10, X11
	MOVL 48(R11), R10
	MOVD R10, X12
	MOVL 52(R11), R10
	MOVD R10, X13
	MOVL 56(R11), R10
	MOVD R10, X14
	MOVL 60(R11), R10
	MOVD R10, X15
	MOVL $0x6a09e667, AX
	MOVL $0xbb67ae85, BX
	MOVL $0x3c6ef372, CX
	MOVL $0xa54ff53a, DX
	MOVL $0x510e527f, SI
	MOVL $0x9b05688c, DI
	MOVL $0x1f83d9ab, R8
	MOVL $0x5be0cd19, R9
	MOVL BX, R13
	XORL CX, R13
	WORD(X0, 0x428a2f98, AX, BX, CX, DX, SI, DI, R8, R9, R12, R13)
	WORD(X1, 0x71374491, R9, AX, BX, CX, DX, SI, DI, R8, R13, R12)
	WORD(X2, -0x4a3f0431, R8, R9, AX, BX, CX, DX, SI, DI, R12, R13)
	WORD(X3, -0x164a245b, DI, R8, R9, AX, BX, CX, DX, SI, R13, R12)
	WORD(X4, 0x3956c25b, SI, DI, R8, R9, AX, BX, CX, DX, R12, R13)
	WORD(X5, 0x59f111f1, DX, SI, DI, R8, R9, AX, BX, CX, R13, R12)
	WORD(X6, -0x6dc07d5c, CX, DX, SI, DI, R8, R9, AX, BX, R12, R13)
	WORD(X7, -0x54e3a12b, BX, CX, DX, SI, DI, R8, R9, AX, R13, R12)
	WORD(X8, -0x27f85568, AX, BX, CX, DX, SI, DI, R8, R9, R12, R13)
	WORD(X9, 0x12835b01, R9, AX, BX, CX, DX, SI, DI, R8, R13, R12)
	WORD(X10, 0x243185be, R8, R9, AX, BX, CX, DX, SI, DI, R12, R13)
	WORD(X11, 0x550c7dc3, DI, R8, R9, AX, BX, CX, DX, SI, R13, R12)
	WORD(X12, 0x72be5d74, SI, DI, R8, R9, AX, BX, CX, DX, R12, R13)
	WORD(X13, -0x7f214e02, DX, SI, DI, R8, R9, AX, BX, CX, R13, R12)
	WORD(X14, -0x6423f959, CX, DX, SI, DI, R8, R9, AX, BX, R12, R13)
	WORD(X15, -0x3e640e8c, BX, CX, DX, SI, DI, R8, R9, AX, R13, R12)
	NEXT(X0, X1, X9, X14, -0x1b64963f, AX, BX, CX, DX, SI, DI, R8, R9, R12, R13)
	NEXT(X1, X2, X10, X15, -0x1041b87a, R9, AX, BX, CX, DX, SI, DI, R8, R13, R12)
	NEXT(X2, X3, X11, X0, 0x0fc19dc6, R8, R9, AX, BX, CX, DX, SI, DI, R12, R13)
	NEXT(X3, X4, X12, X1, 0x240ca1cc, DI, R8, R9, AX, BX, CX, DX, SI, R13, R12)
	NEXT(X4, X5, X13, X2, 0x2de92c6f, SI, DI, R8, R9, AX, BX, CX, DX, R12, R13)
	NEXT(X5, X6, X14, X3, 0x4a7484aa, DX, SI, DI, R8, R9, AX, BX, CX, R13, R12)
	NEXT(X6, X7, X15, X4, 0x5cb0a9dc, CX, DX, SI, DI, R8, R9, AX, BX, R12, R13)
	NEXT(X7, X8, X0, X5, 0x76f988da, BX, CX, DX, SI, DI, R8, R9, AX, R13, R12)
	NEXT(X8, X9, X1, X6, -0x67c1aeae, AX, BX, CX, DX, SI, DI, R8, R9, R12, R13)
	NEXT(X9, X10, X2, X7, -0x57ce3993, R9, AX, BX, CX, DX, SI, DI, R8, R13, R12)
	NEXT(X10, X11, X3, X8, -0x4ffcd838, R8, R9, AX, BX, CX, DX, SI, DI, R12, R13)
	NEXT(X11, X12, X4, X9, -0x40a68039, DI, R8, R9, AX, BX, CX, DX, SI, R13, R12)
	NEXT(X12, X13, X5, X10, -0x391ff40d, SI, DI, R8, R9, AX, BX, CX, DX, R12, R13)
	NEXT(X13, X14, X6, X11, -0x2a586eb9, DX, SI, DI, R8, R9, AX, BX, CX, R13, R12)
	NEXT(X14, X15, X7, X12, 0x06ca6351, CX, DX, SI, DI, R8, R9, AX, BX, R12, R13)
	NEXT(X15, X0, X8, X13, 0x14292967, BX, CX, DX, SI, DI, R8, R9, AX, R13, R12)
	NEXT(X0, X1, X9, X14, 0x27b70a85, AX, BX, CX, DX, SI, DI, R8, R9, R12, R13)
	NEXT(X1, X2, X10, X15, 0x2e1b2138, R9, AX, BX, CX, DX, SI, DI, R8, R13, R12)
	NEXT(X2, X3, X11, X0, 0x4d2c6dfc, R8, R9, AX, BX, CX, DX, SI, DI, R12, R13)
	NEXT(X3, X4, X12, X1, 0x53380d13, DI, R8, R9, AX, BX, CX, DX, SI, R13, R12)
	NEXT(X4, X5, X13, X2, 0x650a7354, SI, DI, R8, R9, AX, BX, CX, DX, R12, R13)
	NEXT(X5, X6, X14, X3, 0x766a0abb, DX, SI, DI, R8, R9, AX, BX, CX, R13, R12)
	NEXT(X6, X7, X15, X4, -0x7e3d36d2, CX, DX, SI, DI, R8, R9, AX, BX, R12, R13)
	NEXT(X7, X8, X0, X5, -0x6d8dd37b, BX, CX, DX, SI, DI, R8, R9, AX, R13, R12)
	NEXT(X8, X9, X1, X6, -0x5d40175f, AX, BX, CX, DX, SI, DI, R8, R9, R12, R13)
	NEXT(X9, X10, X2, X7, -0x57e599b5, R9, AX, BX, CX, DX, SI, DI, R8, R13, R12)
	NEXT(X10, X11, X3, X8, -0x3db47490, R8, R9, AX, BX, CX, DX, SI, DI, R12, R13)
	NEXT(X11, X12, X4, X9, -0x3893ae5d, DI, R8, R9, AX, BX, CX, DX, SI, R13, R12)
	NEXT(X12, X13, X5, X10, -0x2e6d17e7, SI, DI, R8, R9, AX, BX, CX, DX, R12, R13)
	NEXT(X13, X14, X6, X11, -0x2966f9dc, DX, SI, DI, R8, R9, AX, BX, CX, R13, R12)
	NEXT(X14, X15, X7, X12, -0x0bf1ca7b, CX, DX, SI, DI, R8, R9, AX, BX, R12, R13)
	NEXT(X15, X0, X8, X13, 0x106aa070, BX, CX, DX, SI, DI, R8, R9, AX, R13, R12)
	NEXT(X0, X1, X9, X14, 0x19a4c116, AX, BX, CX, DX, SI, DI, R8, R9, R12, R13)
	NEXT(X1, X2, X10, X15, 0x1e376c08, R9, AX, BX, CX, DX, SI, DI, R8, R13, R12)
	NEXT(X2, X3, X11, X0, 0x2748774c, R8, R9, AX, BX, CX, DX, SI, DI, R12, R13)
	NEXT(X3, X4, X12, X1, 0x34b0bcb5, DI, R8, R9, AX, BX, CX, DX, SI, R13, R12)
	NEXT(X4, X5, X13, X2, 0x391c0cb3, SI, DI, R8, R9, AX, BX, CX, DX, R12, R13)
	NEXT(X5, X6, X14, X3, 0x4ed8aa4a, DX, SI, DI, R8, R9, AX, BX, CX, R13, R12)
	NEXT(X6, X7, X15, X4, 0x5b9cca4f, CX, DX, SI, DI, R8, R9, AX, BX, R12, R13)
	NEXT(X7, X8, X0, X5, 0x682e6ff3, BX, CX, DX, SI, DI, R8, R9, AX, R13, R12)
	NEXT(X8, X9, X1, X6, 0x748f82ee, AX, BX, CX, DX, SI, DI, R8, R9, R12, R13)
	NEXT(X9, X10, X2, X7, 0x78a5636f, R9, AX, BX, CX, DX, SI, DI, R8, R13, R12)
	NEXT(X10, X11, X3, X8, -0x7b3787ec, R8, R9, AX, BX, CX, DX, SI, DI, R12, R13)
	NEXT(X11, X12, X4, X9, -0x7338fdf8, DI, R8, R9, AX, BX, CX, DX, SI, R13, R12)
	NEXT(X12, X13, X5, X10, -0x6f410006, SI, DI, R8, R9, AX, BX, CX, DX, R12, R13)
	NEXT(X13, X14, X6, X11, -0x5baf9315, DX, SI, DI, R8, R9, AX, BX, CX, R13, R12)
	NEXT(X14, X15, X7, X12, -0x41065c09, CX, DX, SI, DI, R8, R9, AX, BX, R12, R13)
	NEXT(X15, X0, X8, X13, -0x398e870e, BX, CX, DX, SI, DI, R8, R9, AX, R13, R12)
	ADDL $0x6a09e667, AX
	ADDL $-0x4498517b, BX
	ADDL $0x3c6ef372, CX
	ADDL $-0x5ab00ac6, DX
	ADDL $0x510e527f, SI
	ADDL $-0x64fa9774, DI
	ADDL $0x1f83d9ab, R8
	ADDL $0x5be0cd19, R9
	MOVD AX, X0
	MOVD BX, X1
	MOVD CX, X2
	MOVD DX, X3
	MOVD SI, X4
	MOVD DI, X5
	MOVD R8, X6
	MOVD R9, X7
	MOVL BX, R13
	XORL CX, R13
	MADE(0, AX, BX, CX, DX, SI, DI, R8, R9, R12, R13)
	MADE(32, R9, AX, BX, CX, DX, SI, DI, R8, R13, R12)
	MADE(64, R8, R9, AX, BX, CX, DX, SI, DI, R12, R13)
	MADE(96, DI, R8, R9, AX, BX, CX, DX, SI, R13, R12)
	MADE(128, SI, DI, R8, R9, AX, BX, CX, DX, R12, R13)
	MADE(160, DX, SI, DI, R8, R9, AX, BX, CX, R13, R12)
	MADE(192, CX, DX, SI, DI, R8, R9, AX, BX, R12, R13)
	MADE(224, BX, CX, DX, SI, DI, R8, R9, AX, R13, R12)
	MADE(256, AX, BX, CX, DX, SI, DI, R8, R9, R12, R13)
	MADE(288, R9, AX, BX, CX, DX, SI, DI, R8, R13, R12)
	MADE(320, R8, R9, AX, BX, CX, DX, SI, DI, R12, R13)
	MADE(352, DI, R8, R9, AX, BX, CX, DX, SI, R13, R12)
	MADE(384, SI, DI, R8, R9, AX, BX, CX, DX, R12, R13)
	MADE(416, DX, SI, DI, R8, R9, AX, BX, CX, R13, R12)
	MADE(448, CX, DX, SI, DI, R8, R9, AX, BX, R12, R13)
	MADE(480, BX, CX, DX, SI, DI, R8, R9, AX, R13, R12)
	MADE(512, AX, BX, CX, DX, SI, DI, R8, R9, R12, R13)
	MADE(544, R9, AX, BX, CX, DX, SI, DI, R8, R13, R12)
	MADE(576, R8, R9, AX, BX, CX, DX, SI, DI, R12, R13)
	MADE(608, DI, R8, R9, AX, BX, CX, DX, SI, R13, R12)
	MADE(640, SI, DI, R8, R9, AX, BX, CX, DX, R12, R13)
	MADE(672, DX, SI, DI, R8, R9, AX, BX, CX, R13, R12)
	MADE(704, CX, DX, SI, DI, R8, R9, AX, BX, R12, R13)
	MADE(736, BX, CX, DX, SI, DI, R8, R9, AX, R13, R12)
	MADE(768, AX, BX, CX, DX, SI, DI, R8, R9, R12, R13)
	MADE(800, R9, AX, BX, CX, DX, SI, DI, R8, R13, R12)
	MADE(832, R8, R9, AX, BX, CX, DX, SI, DI, R12, R13)
	MADE(864, DI, R8, R9, AX, BX, CX, DX, SI, R13, R12)
	MADE(896, SI, DI, R8, R9, AX, BX, CX, DX, R12, R13)
	MADE(928, DX, SI, DI, R8, R9, AX, BX, CX, R13, R12)
	MADE(960, CX, DX, SI, DI, R8, R9, AX, BX, R12, R13)
	MADE(992, BX, CX, DX, SI, DI, R8, R9, AX, R13, R12)
	MADE(1024, AX, BX, CX, DX, SI, DI, R8, R9, R12, R13)
	MADE(1056, R9, AX, BX, CX, DX, SI, DI, R8, R13, R12)
	MADE(1088, R8, R9, AX, BX, CX, DX, SI, DI, R12, R13)
	MADE(1120, DI, R8, R9, AX, BX, CX, DX, SI, R13, R12)
	MADE(1152, SI, DI, R8, R9, AX, BX, CX, DX, R12, R13)
	MADE(1184, DX, SI, DI, R8, R9, AX, BX, CX, R13, R12)
	MADE(1216, CX, DX, SI, DI, R8, R9, AX, BX, R12, R13)
	MADE(1248, BX, CX, DX, SI, DI, R8, R9, AX, R13, R12)
	MADE(1280, AX, BX, CX, DX, SI, DI, R8, R9, R12, R13)
	MADE(1312, R9, AX, BX, CX, DX, SI, DI, R8, R13, R12)
	MADE(1344, R8, R9, AX, BX, CX, DX, SI, DI, R12, R13)
	MADE(1376, DI, R8, R9, AX, BX, CX, DX, SI, R13, R12)
	MADE(1408, SI, DI, R8, R9, AX, BX, CX, DX, R12, R13)
	MADE(1440, DX, SI, DI, R8, R9, AX, BX, CX, R13, R12)
	MADE(1472, CX, DX, SI, DI, R8, R9, AX, BX, R12, R13)
	MADE(1504, BX, CX, DX, SI, DI, R8, R9, AX, R13, R12)
	MADE(1536, AX, BX, CX, DX, SI, DI, R8, R9, R12, R13)
	MADE(1568, R9, AX, BX, CX, DX, SI, DI, R8, R13, R12)
	MADE(1600, R8, R9, AX, BX, CX, DX, SI, DI, R12, R13)
	MADE(1632, DI, R8, R9, AX, BX, CX, DX, SI, R13, R12)
	MADE(1664, SI, DI, R8, R9, AX, BX, CX, DX, R12, R13)
	MADE(1696, DX, SI, DI, R8, R9, AX, BX, CX, R13, R12)
	MADE(1728, CX, DX, SI, DI, R8, R9, AX, BX, R12, R13)
	MADE(1760, BX, CX, DX, SI, DI, R8, R9, AX, R13, R12)
	MADE(1792, AX, BX, CX, DX, SI, DI, R8, R9, R12, R13)
	MADE(1824, R9, AX, BX, CX, DX, SI, DI, R8, R13, R12)
	MADE(1856, R8, R9, AX, BX, CX, DX, SI, DI, R12, R13)
	MADE(1888, DI, R8, R9, AX, BX, CX, DX, SI, R13, R12)
	MADE(1920, SI, DI, R8, R9, AX, BX, CX, DX, R12, R13)
	MADE(1952, DX, SI, DI, R8, R9, AX, BX, CX, R13, R12)
	MADE(1984, CX, DX, SI, DI, R8, R9, AX, BX, R12, R13)
	MADE(2016, BX, CX, DX, SI, DI, R8, R9, AX, R13, R12)
	MOVD X0, R10
	ADDL R10, AX
	MOVD AX, X0
	MOVD X1, R10
	ADDL R10, BX
	MOVD BX, X1
	MOVD X2, R10
	ADDL R10, CX
	MOVD CX, X2
	MOVD X3, R10
	ADDL R10, DX
	MOVD DX, X3
	MOVD X4, R10
	ADDL R10, SI
	MOVD SI, X4
	MOVD X5, R10
	ADDL R10, DI
	MOVD DI, X5
	MOVD X6, R10
	ADDL R10, R8
	MOVD R8, X6
	MOVD X7, R10
	ADDL R10, R9
	MOVD R9, X7
	ADDQ $4, R15
	DECQ rounds+16(FP)
	JNZ next
	MOVQ lane+0(FP), R11
	MOVD X0, R10
	MOVL R10, 0(R11)
	MOVD X1, R10
	MOVL R10, 4(R11)
	MOVD X2, R10
	MOVL R10, 8(R11)
	MOVD X3, R10
	MOVL R10, 12(R11)
	MOVD X4, R10
	MOVL R10, 16(R11)
	MOVD X5, R10
	MOVL R10, 20(R11)
	MOVD X6, R10
	MOVL R10, 24(R11)
	MOVD X7, R10
	MOVL R10, 28(R11)
	RET
