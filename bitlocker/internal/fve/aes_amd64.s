#include "textflag.h"

// AES of eight blocks at a time: one instruction of the processor's AES unit takes some four cycles, but it takes on a new
// one each cycle. Registers in all functions here:
//
//	AX      round keys: 11 or 15 of 16 bytes; for decrypting those of the equivalent inverse cipher (FIPS 197, 5.3.5)
//	R8      rounds: 10 or 14
//	X0..X7  blocks
//	X9      scratch

// ROUND8 is one round of all blocks.
#define ROUND8(OP, OFF) \
	MOVOU OFF(AX), X9; \
	OP   X9, X0; \
	OP   X9, X1; \
	OP   X9, X2; \
	OP   X9, X3; \
	OP   X9, X4; \
	OP   X9, X5; \
	OP   X9, X6; \
	OP   X9, X7

// CRYPT8 encrypts with AESENC and AESENCLAST, decrypts with AESDEC and AESDECLAST. A function uses it once, for its labels.
#define CRYPT8(OP, LAST) \
	ROUND8(PXOR, 0); \
	ROUND8(OP, 16); \
	ROUND8(OP, 32); \
	ROUND8(OP, 48); \
	ROUND8(OP, 64); \
	ROUND8(OP, 80); \
	ROUND8(OP, 96); \
	ROUND8(OP, 112); \
	ROUND8(OP, 128); \
	ROUND8(OP, 144); \
	CMPQ R8, $14; \
	JEQ  long; \
	ROUND8(LAST, 160); \
	JMP  done; \
long: \
	ROUND8(OP, 160); \
	ROUND8(OP, 176); \
	ROUND8(OP, 192); \
	ROUND8(OP, 208); \
	ROUND8(LAST, 224); \
done:

// ARGS loads what all functions have in common.
#define ARGS \
	MOVQ keys+0(FP), AX; \
	MOVQ rounds+8(FP), R8; \
	MOVQ dst+16(FP), DI; \
	MOVQ src+24(FP), SI

// func ecbEncrypt(keys *byte, rounds int, dst, src *byte, groups int)
TEXT ·ecbEncrypt(SB), NOSPLIT, $0-40
	ARGS
	MOVQ groups+32(FP), CX

group:
	MOVOU 0(SI), X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	MOVOU 64(SI), X4
	MOVOU 80(SI), X5
	MOVOU 96(SI), X6
	MOVOU 112(SI), X7
	CRYPT8(AESENC, AESENCLAST)
	MOVOU X0, 0(DI)
	MOVOU X1, 16(DI)
	MOVOU X2, 32(DI)
	MOVOU X3, 48(DI)
	MOVOU X4, 64(DI)
	MOVOU X5, 80(DI)
	MOVOU X6, 96(DI)
	MOVOU X7, 112(DI)
	ADDQ $128, SI
	ADDQ $128, DI
	DECQ CX
	JNZ  group
	RET

// func keyWord(w uint32) uint32
// It is SubWord of the key expansion (FIPS 197, 5.2).
TEXT ·keyWord(SB), NOSPLIT, $0-12
	MOVL w+0(FP), AX
	MOVQ AX, X0
	PSLLDQ $4, X0
	AESKEYGENASSIST $0, X0, X1
	MOVQ X1, AX
	MOVL AX, ret+8(FP)
	RET

// func inverseKey(dst, src *byte)
TEXT ·inverseKey(SB), NOSPLIT, $0-16
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVOU (SI), X0
	AESIMC X0, X1
	MOVOU X1, (DI)
	RET

// The polynomial of IEEE 1619, 5.2, and the carry between the halves.
DATA xtsCarry<>+0(SB)/8, $0x87
DATA xtsCarry<>+8(SB)/8, $1
GLOBL xtsCarry<>(SB), RODATA|NOPTR, $16

// TWEAK8 whitens one block with the tweak in X8, keeps the tweak on the stack, and doubles it.
#define TWEAK8(OFF, BLOCK) \
	MOVOU  OFF(SI), BLOCK; \
	MOVOU  X8, OFF(SP); \
	PXOR   X8, BLOCK; \
	PSHUFD $0x13, X8, X11; \
	PSRAL  $31, X11; \
	PAND   X10, X11; \
	PADDQ  X8, X8; \
	PXOR   X11, X8

#define WHITEN8(OFF, BLOCK) \
	MOVOU OFF(SP), X9; \
	PXOR  X9, BLOCK; \
	MOVOU BLOCK, OFF(DI)

// XTS8 is a whole function: sectors of groups of eight blocks, each sector with its own first tweak.
#define XTS8(OP, LAST) \
	ARGS; \
	MOVQ  tweaks+32(FP), DX; \
	MOVQ  sectors+40(FP), CX; \
	MOVQ  groups+48(FP), R9; \
	MOVOU xtsCarry<>(SB), X10; \
sector: \
	MOVOU (DX), X8; \
	ADDQ  $16, DX; \
	MOVQ  R9, R10; \
group: \
	TWEAK8(0, X0); \
	TWEAK8(16, X1); \
	TWEAK8(32, X2); \
	TWEAK8(48, X3); \
	TWEAK8(64, X4); \
	TWEAK8(80, X5); \
	TWEAK8(96, X6); \
	TWEAK8(112, X7); \
	CRYPT8(OP, LAST) \
	WHITEN8(0, X0); \
	WHITEN8(16, X1); \
	WHITEN8(32, X2); \
	WHITEN8(48, X3); \
	WHITEN8(64, X4); \
	WHITEN8(80, X5); \
	WHITEN8(96, X6); \
	WHITEN8(112, X7); \
	ADDQ  $128, SI; \
	ADDQ  $128, DI; \
	DECQ  R10; \
	JNZ   group; \
	DECQ  CX; \
	JNZ   sector; \
	RET

// func xtsEncrypt(keys *byte, rounds int, dst, src, tweaks *byte, sectors, groups int)
TEXT ·xtsEncrypt(SB), NOSPLIT, $128-56
	XTS8(AESENC, AESENCLAST)

// func xtsDecrypt(keys *byte, rounds int, dst, src, tweaks *byte, sectors, groups int)
TEXT ·xtsDecrypt(SB), NOSPLIT, $128-56
	XTS8(AESDEC, AESDECLAST)

// func cbcDecrypt(keys *byte, rounds int, dst, src, ivs *byte, sectors, groups int)
TEXT ·cbcDecrypt(SB), NOSPLIT, $0-56
	ARGS
	MOVQ ivs+32(FP), DX
	MOVQ sectors+40(FP), CX
	MOVQ groups+48(FP), R9

sector:
	MOVOU (DX), X8
	ADDQ  $16, DX
	MOVQ  R9, R10

group:
	MOVOU 0(SI), X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	MOVOU 64(SI), X4
	MOVOU 80(SI), X5
	MOVOU 96(SI), X6
	MOVOU 112(SI), X7
	CRYPT8(AESDEC, AESDECLAST)
	// All of the source is read before any of it is written: both may be the same memory.
	PXOR  X8, X0
	MOVOU 0(SI), X9
	PXOR  X9, X1
	MOVOU 16(SI), X9
	PXOR  X9, X2
	MOVOU 32(SI), X9
	PXOR  X9, X3
	MOVOU 48(SI), X9
	PXOR  X9, X4
	MOVOU 64(SI), X9
	PXOR  X9, X5
	MOVOU 80(SI), X9
	PXOR  X9, X6
	MOVOU 96(SI), X9
	PXOR  X9, X7
	MOVOU 112(SI), X8
	MOVOU X0, 0(DI)
	MOVOU X1, 16(DI)
	MOVOU X2, 32(DI)
	MOVOU X3, 48(DI)
	MOVOU X4, 64(DI)
	MOVOU X5, 80(DI)
	MOVOU X6, 96(DI)
	MOVOU X7, 112(DI)
	ADDQ  $128, SI
	ADDQ  $128, DI
	DECQ  R10
	JNZ   group
	DECQ  CX
	JNZ   sector
	RET

// func cbcEncrypt(keys *byte, rounds int, dst, src, ivs *byte, stride, blocks int)
// Eight sectors, stride bytes apart: within one, each block needs the one before.
TEXT ·cbcEncrypt(SB), NOSPLIT, $0-56
	ARGS
	MOVQ ivs+32(FP), DX
	MOVQ stride+40(FP), R9
	MOVQ blocks+48(FP), CX
	MOVOU 0(DX), X0
	MOVOU 16(DX), X1
	MOVOU 32(DX), X2
	MOVOU 48(DX), X3
	MOVOU 64(DX), X4
	MOVOU 80(DX), X5
	MOVOU 96(DX), X6
	MOVOU 112(DX), X7

block:
	MOVQ  SI, R10
	MOVOU (R10), X9
	PXOR  X9, X0
	ADDQ  R9, R10
	MOVOU (R10), X9
	PXOR  X9, X1
	ADDQ  R9, R10
	MOVOU (R10), X9
	PXOR  X9, X2
	ADDQ  R9, R10
	MOVOU (R10), X9
	PXOR  X9, X3
	ADDQ  R9, R10
	MOVOU (R10), X9
	PXOR  X9, X4
	ADDQ  R9, R10
	MOVOU (R10), X9
	PXOR  X9, X5
	ADDQ  R9, R10
	MOVOU (R10), X9
	PXOR  X9, X6
	ADDQ  R9, R10
	MOVOU (R10), X9
	PXOR  X9, X7
	CRYPT8(AESENC, AESENCLAST)
	MOVQ  DI, R10
	MOVOU X0, (R10)
	ADDQ  R9, R10
	MOVOU X1, (R10)
	ADDQ  R9, R10
	MOVOU X2, (R10)
	ADDQ  R9, R10
	MOVOU X3, (R10)
	ADDQ  R9, R10
	MOVOU X4, (R10)
	ADDQ  R9, R10
	MOVOU X5, (R10)
	ADDQ  R9, R10
	MOVOU X6, (R10)
	ADDQ  R9, R10
	MOVOU X7, (R10)
	ADDQ  $16, SI
	ADDQ  $16, DI
	DECQ  CX
	JNZ   block
	RET
