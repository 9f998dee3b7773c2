#include "textflag.h"

// The Elephant diffuser of eight sectors at a time. Word i of all of them lies in row i of the scratch memory, 32 bytes, so
// that each instruction does the same to eight sectors.

// TRANSPOSE turns Y0..Y7, eight words of eight sectors each, into Y8..Y15, and back.
#define TRANSPOSE \
	VPUNPCKLDQ  Y1, Y0, Y8; \
	VPUNPCKHDQ  Y1, Y0, Y9; \
	VPUNPCKLDQ  Y3, Y2, Y10; \
	VPUNPCKHDQ  Y3, Y2, Y11; \
	VPUNPCKLDQ  Y5, Y4, Y12; \
	VPUNPCKHDQ  Y5, Y4, Y13; \
	VPUNPCKLDQ  Y7, Y6, Y14; \
	VPUNPCKHDQ  Y7, Y6, Y15; \
	VPUNPCKLQDQ Y10, Y8, Y0; \
	VPUNPCKHQDQ Y10, Y8, Y1; \
	VPUNPCKLQDQ Y11, Y9, Y2; \
	VPUNPCKHQDQ Y11, Y9, Y3; \
	VPUNPCKLQDQ Y14, Y12, Y4; \
	VPUNPCKHQDQ Y14, Y12, Y5; \
	VPUNPCKLQDQ Y15, Y13, Y6; \
	VPUNPCKHQDQ Y15, Y13, Y7; \
	VPERM2I128  $0x20, Y4, Y0, Y8; \
	VPERM2I128  $0x20, Y5, Y1, Y9; \
	VPERM2I128  $0x20, Y6, Y2, Y10; \
	VPERM2I128  $0x20, Y7, Y3, Y11; \
	VPERM2I128  $0x31, Y4, Y0, Y12; \
	VPERM2I128  $0x31, Y5, Y1, Y13; \
	VPERM2I128  $0x31, Y6, Y2, Y14; \
	VPERM2I128  $0x31, Y7, Y3, Y15

// ROTATE rotates the words of a register to the left.
#define ROTATE(N, REG, TMP) \
	VPSLLD $N, REG, TMP; \
	VPSRLD $(32-N), REG, REG; \
	VPOR   TMP, REG, REG

// ROWB is diffuser B's step of one row: its own, and those two and five further on.
#define ROWB(I) \
	VMOVDQU (32*(I+5))(BX), Y0; \
	VPXOR   (32*(I+2))(BX), Y0, Y0; \
	VPADDD  (32*I)(BX), Y0, Y0; \
	VMOVDQU Y0, (32*I)(BX)

#define ROWBR(I, N) \
	VMOVDQU (32*(I+5))(BX), Y0; \
	ROTATE(N, Y0, Y1); \
	VPXOR   (32*(I+2))(BX), Y0, Y0; \
	VPADDD  (32*I)(BX), Y0, Y0; \
	VMOVDQU Y0, (32*I)(BX)

#define ROWSB \
	ROWB(0); \
	ROWBR(1, 10); \
	ROWB(2); \
	ROWBR(3, 25); \
	ADDQ    $128, BX

// func diffuseDecrypt8(dst, keys, scratch *byte, stride, words int)
// dst holds the first of eight sectors, stride bytes apart, and keys their sector keys of 32 bytes. scratch has
// words+5 rows. words is the size of a sector in words, a multiple of 8 and at least 16.
TEXT ·diffuseDecrypt8(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ keys+8(FP), DX
	MOVQ scratch+16(FP), SI
	MOVQ stride+24(FP), R9
	MOVQ words+32(FP), CX
	LEAQ (R9)(R9*2), R10 // three sectors on
	MOVQ CX, R11
	SHLQ $5, R11
	ADDQ SI, R11         // behind the last row

	// In.
	MOVQ SI, BX
	MOVQ DI, AX

in:
	LEAQ    (AX)(R9*4), R12
	VMOVDQU (AX), Y0
	VMOVDQU (AX)(R9*1), Y1
	VMOVDQU (AX)(R9*2), Y2
	VMOVDQU (AX)(R10*1), Y3
	VMOVDQU (R12), Y4
	VMOVDQU (R12)(R9*1), Y5
	VMOVDQU (R12)(R9*2), Y6
	VMOVDQU (R12)(R10*1), Y7
	TRANSPOSE
	VMOVDQU Y8, 0(BX)
	VMOVDQU Y9, 32(BX)
	VMOVDQU Y10, 64(BX)
	VMOVDQU Y11, 96(BX)
	VMOVDQU Y12, 128(BX)
	VMOVDQU Y13, 160(BX)
	VMOVDQU Y14, 192(BX)
	VMOVDQU Y15, 224(BX)
	ADDQ    $32, AX
	ADDQ    $256, BX
	CMPQ    BX, R11
	JNE     in

	MOVQ $3, R13

b:
	MOVQ SI, BX
	ROWSB
	ROWSB

	// The last rows need the first ones as they are by now.
	VMOVDQU 0(SI), Y0
	VMOVDQU 32(SI), Y1
	VMOVDQU 64(SI), Y2
	VMOVDQU 96(SI), Y3
	VMOVDQU 128(SI), Y4
	VMOVDQU Y0, 0(R11)
	VMOVDQU Y1, 32(R11)
	VMOVDQU Y2, 64(R11)
	VMOVDQU Y3, 96(R11)
	VMOVDQU Y4, 128(R11)

rowsB:
	ROWSB
	CMPQ BX, R11
	JNE  rowsB
	DECQ R13
	JNZ  b

	// Diffuser A adds to a row the one two before and the one five before it: Y8 is the row before, Y12 that five before.
	MOVQ    $5, R13
	VMOVDQU -32(R11), Y8
	VMOVDQU -64(R11), Y9
	VMOVDQU -96(R11), Y10
	VMOVDQU -128(R11), Y11
	VMOVDQU -160(R11), Y12

a:
	MOVQ SI, BX

rowsA:
	ROTATE(9, Y12, Y4)
	VPXOR   Y9, Y12, Y0
	VPADDD  (BX), Y0, Y0
	VPXOR   Y8, Y11, Y1
	VPADDD  32(BX), Y1, Y1
	ROTATE(13, Y10, Y4)
	VPXOR   Y0, Y10, Y2
	VPADDD  64(BX), Y2, Y2
	VPXOR   Y1, Y9, Y3
	VPADDD  96(BX), Y3, Y3
	VMOVDQU Y0, (BX)
	VMOVDQU Y1, 32(BX)
	VMOVDQU Y2, 64(BX)
	VMOVDQU Y3, 96(BX)
	VMOVDQA Y8, Y12
	VMOVDQA Y0, Y11
	VMOVDQA Y1, Y10
	VMOVDQA Y2, Y9
	VMOVDQA Y3, Y8
	ADDQ    $128, BX
	CMPQ    BX, R11
	JNE     rowsA
	DECQ    R13
	JNZ     a

	// Out. A sector key is as long as what is taken of a sector at a time.
	MOVQ SI, BX
	MOVQ DI, AX

out:
	LEAQ    (AX)(R9*4), R12
	VMOVDQU 0(BX), Y0
	VMOVDQU 32(BX), Y1
	VMOVDQU 64(BX), Y2
	VMOVDQU 96(BX), Y3
	VMOVDQU 128(BX), Y4
	VMOVDQU 160(BX), Y5
	VMOVDQU 192(BX), Y6
	VMOVDQU 224(BX), Y7
	TRANSPOSE
	VPXOR   0(DX), Y8, Y8
	VPXOR   32(DX), Y9, Y9
	VPXOR   64(DX), Y10, Y10
	VPXOR   96(DX), Y11, Y11
	VPXOR   128(DX), Y12, Y12
	VPXOR   160(DX), Y13, Y13
	VPXOR   192(DX), Y14, Y14
	VPXOR   224(DX), Y15, Y15
	VMOVDQU Y8, (AX)
	VMOVDQU Y9, (AX)(R9*1)
	VMOVDQU Y10, (AX)(R9*2)
	VMOVDQU Y11, (AX)(R10*1)
	VMOVDQU Y12, (R12)
	VMOVDQU Y13, (R12)(R9*1)
	VMOVDQU Y14, (R12)(R9*2)
	VMOVDQU Y15, (R12)(R10*1)
	ADDQ    $32, AX
	ADDQ    $256, BX
	CMPQ    BX, R11
	JNE     out
	VZEROUPPER
	RET
