#include "textflag.h"

// The key stretch, a hash of 88 bytes 1,048,576 times over, without going through memory between two of them. Messages are
// the stretch's two blocks of SHA-256 (FIPS 180-4, 6.2): the last hash and the initial one; and salt, count and padding. The
// words of a hash are as they are the words of the next message.

// The round constants, FIPS 180-4, 4.2.2.
DATA roundK<>+0(SB)/8, $0x71374491428a2f98
DATA roundK<>+8(SB)/8, $0xe9b5dba5b5c0fbcf
DATA roundK<>+16(SB)/8, $0x59f111f13956c25b
DATA roundK<>+24(SB)/8, $0xab1c5ed5923f82a4
DATA roundK<>+32(SB)/8, $0x12835b01d807aa98
DATA roundK<>+40(SB)/8, $0x550c7dc3243185be
DATA roundK<>+48(SB)/8, $0x80deb1fe72be5d74
DATA roundK<>+56(SB)/8, $0xc19bf1749bdc06a7
DATA roundK<>+64(SB)/8, $0xefbe4786e49b69c1
DATA roundK<>+72(SB)/8, $0x240ca1cc0fc19dc6
DATA roundK<>+80(SB)/8, $0x4a7484aa2de92c6f
DATA roundK<>+88(SB)/8, $0x76f988da5cb0a9dc
DATA roundK<>+96(SB)/8, $0xa831c66d983e5152
DATA roundK<>+104(SB)/8, $0xbf597fc7b00327c8
DATA roundK<>+112(SB)/8, $0xd5a79147c6e00bf3
DATA roundK<>+120(SB)/8, $0x1429296706ca6351
DATA roundK<>+128(SB)/8, $0x2e1b213827b70a85
DATA roundK<>+136(SB)/8, $0x53380d134d2c6dfc
DATA roundK<>+144(SB)/8, $0x766a0abb650a7354
DATA roundK<>+152(SB)/8, $0x92722c8581c2c92e
DATA roundK<>+160(SB)/8, $0xa81a664ba2bfe8a1
DATA roundK<>+168(SB)/8, $0xc76c51a3c24b8b70
DATA roundK<>+176(SB)/8, $0xd6990624d192e819
DATA roundK<>+184(SB)/8, $0x106aa070f40e3585
DATA roundK<>+192(SB)/8, $0x1e376c0819a4c116
DATA roundK<>+200(SB)/8, $0x34b0bcb52748774c
DATA roundK<>+208(SB)/8, $0x4ed8aa4a391c0cb3
DATA roundK<>+216(SB)/8, $0x682e6ff35b9cca4f
DATA roundK<>+224(SB)/8, $0x78a5636f748f82ee
DATA roundK<>+232(SB)/8, $0x8cc7020884c87814
DATA roundK<>+240(SB)/8, $0xa4506ceb90befffa
DATA roundK<>+248(SB)/8, $0xc67178f2bef9a3f7
GLOBL roundK<>(SB), RODATA|NOPTR, $256

// The first hash, 5.3.3, as the SHA instructions hold it: FEBA and HGDC; then in order.
DATA firstHash<>+0(SB)/8, $0x510e527f9b05688c
DATA firstHash<>+8(SB)/8, $0x6a09e667bb67ae85
DATA firstHash<>+16(SB)/8, $0x1f83d9ab5be0cd19
DATA firstHash<>+24(SB)/8, $0x3c6ef372a54ff53a
DATA firstHash<>+32(SB)/8, $0xbb67ae856a09e667
DATA firstHash<>+40(SB)/8, $0xa54ff53a3c6ef372
DATA firstHash<>+48(SB)/8, $0x9b05688c510e527f
DATA firstHash<>+56(SB)/8, $0x5be0cd191f83d9ab
GLOBL firstHash<>(SB), RODATA|NOPTR, $64

// Behind the count comes a one bit, and at the end the length of 704 bits.
DATA padding<>+0(SB)/8, $0
DATA padding<>+8(SB)/8, $0x0000000080000000
DATA padding<>+16(SB)/8, $0
DATA padding<>+24(SB)/8, $0x000002c000000000
GLOBL padding<>(SB), RODATA|NOPTR, $32

// func cpuid7() (ebx uint32)
TEXT ·cpuid7(SB), NOSPLIT, $0-4
	XORL AX, AX
	CPUID
	CMPL AX, $7
	JLT  none
	MOVL $7, AX
	XORL CX, CX
	CPUID
	MOVL BX, ebx+0(FP)
	RET

none:
	MOVL $0, ebx+0(FP)
	RET

// With the SHA instructions. A lane is: the hash (S0, S1), the message (M0..M3) and a register T for its schedule. R0 at
// AX+0 is the last hash, at 32 the initial one, at 64 the salt. Two lanes run interleaved in one function, as an
// instruction waits for the one before of its own lane. X0 is the instructions' own operand; DX the round constants.

#define ROUNDS2(I, S0, S1, M) \
	MOVOU M, X0; \
	PADDD (16*I)(DX), X0; \
	SHA256RNDS2 X0, S0, S1

#define ROUNDS4(S0, S1) \
	PSHUFD $0x0e, X0, X0; \
	SHA256RNDS2 X0, S1, S0

// SCHEDULE makes the next four words N of the message from M, the four at hand, and P before them.
#define SCHEDULE(M, P, N, T) \
	MOVOU M, T; \
	PALIGNR $4, P, T; \
	PADDD T, N; \
	SHA256MSG2 M, N

#define BLOCK1 \
	ROUNDS2(0, X1, X2, X3); \
	ROUNDS4(X1, X2); \
	ROUNDS2(1, X1, X2, X4); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X4, X3; \
	ROUNDS2(2, X1, X2, X5); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X5, X4; \
	ROUNDS2(3, X1, X2, X6); \
	SCHEDULE(X6, X5, X3, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X6, X5; \
	ROUNDS2(4, X1, X2, X3); \
	SCHEDULE(X3, X6, X4, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X3, X6; \
	ROUNDS2(5, X1, X2, X4); \
	SCHEDULE(X4, X3, X5, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X4, X3; \
	ROUNDS2(6, X1, X2, X5); \
	SCHEDULE(X5, X4, X6, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X5, X4; \
	ROUNDS2(7, X1, X2, X6); \
	SCHEDULE(X6, X5, X3, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X6, X5; \
	ROUNDS2(8, X1, X2, X3); \
	SCHEDULE(X3, X6, X4, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X3, X6; \
	ROUNDS2(9, X1, X2, X4); \
	SCHEDULE(X4, X3, X5, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X4, X3; \
	ROUNDS2(10, X1, X2, X5); \
	SCHEDULE(X5, X4, X6, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X5, X4; \
	ROUNDS2(11, X1, X2, X6); \
	SCHEDULE(X6, X5, X3, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X6, X5; \
	ROUNDS2(12, X1, X2, X3); \
	SCHEDULE(X3, X6, X4, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X3, X6; \
	ROUNDS2(13, X1, X2, X4); \
	SCHEDULE(X4, X3, X5, X7); \
	ROUNDS4(X1, X2); \
	ROUNDS2(14, X1, X2, X5); \
	SCHEDULE(X5, X4, X6, X7); \
	ROUNDS4(X1, X2); \
	ROUNDS2(15, X1, X2, X6); \
	ROUNDS4(X1, X2)

#define BLOCK2 \
	ROUNDS2(0, X1, X2, X3); \
	ROUNDS4(X1, X2); \
	ROUNDS2(0, X8, X9, X10); \
	ROUNDS4(X8, X9); \
	ROUNDS2(1, X1, X2, X4); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X4, X3; \
	ROUNDS2(1, X8, X9, X11); \
	ROUNDS4(X8, X9); \
	SHA256MSG1 X11, X10; \
	ROUNDS2(2, X1, X2, X5); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X5, X4; \
	ROUNDS2(2, X8, X9, X12); \
	ROUNDS4(X8, X9); \
	SHA256MSG1 X12, X11; \
	ROUNDS2(3, X1, X2, X6); \
	SCHEDULE(X6, X5, X3, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X6, X5; \
	ROUNDS2(3, X8, X9, X13); \
	SCHEDULE(X13, X12, X10, X14); \
	ROUNDS4(X8, X9); \
	SHA256MSG1 X13, X12; \
	ROUNDS2(4, X1, X2, X3); \
	SCHEDULE(X3, X6, X4, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X3, X6; \
	ROUNDS2(4, X8, X9, X10); \
	SCHEDULE(X10, X13, X11, X14); \
	ROUNDS4(X8, X9); \
	SHA256MSG1 X10, X13; \
	ROUNDS2(5, X1, X2, X4); \
	SCHEDULE(X4, X3, X5, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X4, X3; \
	ROUNDS2(5, X8, X9, X11); \
	SCHEDULE(X11, X10, X12, X14); \
	ROUNDS4(X8, X9); \
	SHA256MSG1 X11, X10; \
	ROUNDS2(6, X1, X2, X5); \
	SCHEDULE(X5, X4, X6, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X5, X4; \
	ROUNDS2(6, X8, X9, X12); \
	SCHEDULE(X12, X11, X13, X14); \
	ROUNDS4(X8, X9); \
	SHA256MSG1 X12, X11; \
	ROUNDS2(7, X1, X2, X6); \
	SCHEDULE(X6, X5, X3, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X6, X5; \
	ROUNDS2(7, X8, X9, X13); \
	SCHEDULE(X13, X12, X10, X14); \
	ROUNDS4(X8, X9); \
	SHA256MSG1 X13, X12; \
	ROUNDS2(8, X1, X2, X3); \
	SCHEDULE(X3, X6, X4, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X3, X6; \
	ROUNDS2(8, X8, X9, X10); \
	SCHEDULE(X10, X13, X11, X14); \
	ROUNDS4(X8, X9); \
	SHA256MSG1 X10, X13; \
	ROUNDS2(9, X1, X2, X4); \
	SCHEDULE(X4, X3, X5, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X4, X3; \
	ROUNDS2(9, X8, X9, X11); \
	SCHEDULE(X11, X10, X12, X14); \
	ROUNDS4(X8, X9); \
	SHA256MSG1 X11, X10; \
	ROUNDS2(10, X1, X2, X5); \
	SCHEDULE(X5, X4, X6, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X5, X4; \
	ROUNDS2(10, X8, X9, X12); \
	SCHEDULE(X12, X11, X13, X14); \
	ROUNDS4(X8, X9); \
	SHA256MSG1 X12, X11; \
	ROUNDS2(11, X1, X2, X6); \
	SCHEDULE(X6, X5, X3, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X6, X5; \
	ROUNDS2(11, X8, X9, X13); \
	SCHEDULE(X13, X12, X10, X14); \
	ROUNDS4(X8, X9); \
	SHA256MSG1 X13, X12; \
	ROUNDS2(12, X1, X2, X3); \
	SCHEDULE(X3, X6, X4, X7); \
	ROUNDS4(X1, X2); \
	SHA256MSG1 X3, X6; \
	ROUNDS2(12, X8, X9, X10); \
	SCHEDULE(X10, X13, X11, X14); \
	ROUNDS4(X8, X9); \
	SHA256MSG1 X10, X13; \
	ROUNDS2(13, X1, X2, X4); \
	SCHEDULE(X4, X3, X5, X7); \
	ROUNDS4(X1, X2); \
	ROUNDS2(13, X8, X9, X11); \
	SCHEDULE(X11, X10, X12, X14); \
	ROUNDS4(X8, X9); \
	ROUNDS2(14, X1, X2, X5); \
	SCHEDULE(X5, X4, X6, X7); \
	ROUNDS4(X1, X2); \
	ROUNDS2(14, X8, X9, X12); \
	SCHEDULE(X12, X11, X13, X14); \
	ROUNDS4(X8, X9); \
	ROUNDS2(15, X1, X2, X6); \
	ROUNDS4(X1, X2); \
	ROUNDS2(15, X8, X9, X13); \
	ROUNDS4(X8, X9)

// FIRST starts a lane with its first block, SECOND goes on to the second, HASHED stores the hash.
#define FIRST(R, S0, S1, M0, M1, M2, M3) \
	MOVOU 0(R), M0; \
	MOVOU 16(R), M1; \
	MOVOU 32(R), M2; \
	MOVOU 48(R), M3; \
	MOVOU firstHash<>+0(SB), S0; \
	MOVOU firstHash<>+16(SB), S1

#define SECOND(R, S0, S1, M0, M1, M2, M3, OFF) \
	PADDD firstHash<>+0(SB), S0; \
	PADDD firstHash<>+16(SB), S1; \
	MOVOU S0, (OFF)(SP); \
	MOVOU S1, (OFF+16)(SP); \
	MOVOU 64(R), M0; \
	MOVQ  R8, M1; \
	POR   padding<>+0(SB), M1; \
	PXOR  M2, M2; \
	MOVOU padding<>+16(SB), M3

#define HASHED(R, S0, S1, T, OFF) \
	MOVOU (OFF)(SP), T; \
	PADDD T, S0; \
	MOVOU (OFF+16)(SP), T; \
	PADDD T, S1; \
	PSHUFD $0x1b, S0, T; \
	PSHUFD $0xb1, S1, S1; \
	MOVOU T, S0; \
	PBLENDW $0xf0, S1, S0; \
	PALIGNR $8, T, S1; \
	MOVOU S0, 0(R); \
	MOVOU S1, 16(R)

// func stretch1(lane *lane, count, rounds uint64)
TEXT ·stretch1(SB), NOSPLIT, $32-24
	MOVQ lane+0(FP), AX
	MOVQ count+8(FP), CX
	MOVQ rounds+16(FP), BX
	LEAQ roundK<>(SB), DX

round:
	FIRST(AX, X1, X2, X3, X4, X5, X6)
	BLOCK1
	MOVL  CX, R8
	BSWAPL R8
	SECOND(AX, X1, X2, X3, X4, X5, X6, 0)
	BLOCK1
	HASHED(AX, X1, X2, X7, 0)
	INCQ CX
	DECQ BX
	JNZ  round
	RET

// func stretch2(a, b *lane, count, rounds uint64)
TEXT ·stretch2(SB), NOSPLIT, $64-32
	MOVQ a+0(FP), AX
	MOVQ b+8(FP), DI
	MOVQ count+16(FP), CX
	MOVQ rounds+24(FP), BX
	LEAQ roundK<>(SB), DX

round:
	FIRST(AX, X1, X2, X3, X4, X5, X6)
	FIRST(DI, X8, X9, X10, X11, X12, X13)
	BLOCK2
	MOVL  CX, R8
	BSWAPL R8
	SECOND(AX, X1, X2, X3, X4, X5, X6, 0)
	SECOND(DI, X8, X9, X10, X11, X12, X13, 32)
	BLOCK2
	HASHED(AX, X1, X2, X7, 0)
	HASHED(DI, X8, X9, X14, 32)
	INCQ CX
	DECQ BX
	JNZ  round
	RET

// With AVX2, eight lanes: each word of a lane is an element of a register or a row of 32 bytes. At AX+0 are the last
// hashes, at 256 the initial ones, at 512 the salts. The message is on the stack; Y0..Y7 are the hash; DX the constants.

// LANES8 is one round (FIPS 180-4, 6.2.2, step 3), with the roles of the registers going round.
#define LANES8(I, A, B, C, D, E, F, G, H) \
	VPBROADCASTD (4*I)(DX), Y8; \
	VPADDD (32*I)(SP), H, H; \
	VPADDD Y8, H, H; \
	VPSRLD $6, E, Y9; \
	VPSLLD $(32-6), E, Y10; \
	VPXOR Y10, Y9, Y9; \
	VPSRLD $11, E, Y10; \
	VPXOR Y10, Y9, Y9; \
	VPSLLD $(32-11), E, Y10; \
	VPXOR Y10, Y9, Y9; \
	VPSRLD $25, E, Y10; \
	VPXOR Y10, Y9, Y9; \
	VPSLLD $(32-25), E, Y10; \
	VPXOR Y10, Y9, Y9; \
	VPXOR F, G, Y11; \
	VPADDD Y9, H, H; \
	VPAND E, Y11, Y11; \
	VPXOR G, Y11, Y11; \
	VPADDD Y11, H, H; \
	VPADDD H, D, D; \
	VPSRLD $2, A, Y9; \
	VPSLLD $(32-2), A, Y10; \
	VPXOR Y10, Y9, Y9; \
	VPSRLD $13, A, Y10; \
	VPXOR Y10, Y9, Y9; \
	VPSLLD $(32-13), A, Y10; \
	VPXOR Y10, Y9, Y9; \
	VPSRLD $22, A, Y10; \
	VPXOR Y10, Y9, Y9; \
	VPSLLD $(32-22), A, Y10; \
	VPXOR Y10, Y9, Y9; \
	VPADDD Y9, H, H; \
	VPXOR A, B, Y11; \
	VPXOR B, C, Y12; \
	VPAND Y11, Y12, Y12; \
	VPXOR B, Y12, Y12; \
	VPADDD Y12, H, H

#define ROUNDS16 \
	LANES8(0, Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7); \
	LANES8(1, Y7, Y0, Y1, Y2, Y3, Y4, Y5, Y6); \
	LANES8(2, Y6, Y7, Y0, Y1, Y2, Y3, Y4, Y5); \
	LANES8(3, Y5, Y6, Y7, Y0, Y1, Y2, Y3, Y4); \
	LANES8(4, Y4, Y5, Y6, Y7, Y0, Y1, Y2, Y3); \
	LANES8(5, Y3, Y4, Y5, Y6, Y7, Y0, Y1, Y2); \
	LANES8(6, Y2, Y3, Y4, Y5, Y6, Y7, Y0, Y1); \
	LANES8(7, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y0); \
	LANES8(8, Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7); \
	LANES8(9, Y7, Y0, Y1, Y2, Y3, Y4, Y5, Y6); \
	LANES8(10, Y6, Y7, Y0, Y1, Y2, Y3, Y4, Y5); \
	LANES8(11, Y5, Y6, Y7, Y0, Y1, Y2, Y3, Y4); \
	LANES8(12, Y4, Y5, Y6, Y7, Y0, Y1, Y2, Y3); \
	LANES8(13, Y3, Y4, Y5, Y6, Y7, Y0, Y1, Y2); \
	LANES8(14, Y2, Y3, Y4, Y5, Y6, Y7, Y0, Y1); \
	LANES8(15, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y0)

// EXTEND makes one more word of the message (step 1).
#define EXTEND(I) \
	VMOVDQU (32*((I+1)&15))(SP), Y8; \
	VPSRLD $7, Y8, Y9; \
	VPSLLD $(32-7), Y8, Y10; \
	VPXOR Y10, Y9, Y9; \
	VPSRLD $18, Y8, Y10; \
	VPXOR Y10, Y9, Y9; \
	VPSLLD $(32-18), Y8, Y10; \
	VPXOR Y10, Y9, Y9; \
	VPSRLD $3, Y8, Y10; \
	VPXOR Y10, Y9, Y9; \
	VMOVDQU (32*((I+14)&15))(SP), Y8; \
	VPSRLD $17, Y8, Y11; \
	VPSLLD $(32-17), Y8, Y10; \
	VPXOR Y10, Y11, Y11; \
	VPSRLD $19, Y8, Y10; \
	VPXOR Y10, Y11, Y11; \
	VPSLLD $(32-19), Y8, Y10; \
	VPXOR Y10, Y11, Y11; \
	VPSRLD $10, Y8, Y10; \
	VPXOR Y10, Y11, Y11; \
	VPADDD (32*I)(SP), Y9, Y9; \
	VPADDD (32*((I+9)&15))(SP), Y11, Y11; \
	VPADDD Y11, Y9, Y9; \
	VMOVDQU Y9, (32*I)(SP)

#define EXTEND16 \
	EXTEND(0); \
	EXTEND(1); \
	EXTEND(2); \
	EXTEND(3); \
	EXTEND(4); \
	EXTEND(5); \
	EXTEND(6); \
	EXTEND(7); \
	EXTEND(8); \
	EXTEND(9); \
	EXTEND(10); \
	EXTEND(11); \
	EXTEND(12); \
	EXTEND(13); \
	EXTEND(14); \
	EXTEND(15)

// func stretch8(lanes *lanes8, count, rounds uint64)
TEXT ·stretch8(SB), NOSPLIT, $768-24
	MOVQ lanes+0(FP), AX
	MOVQ count+8(FP), CX
	MOVQ rounds+16(FP), BX

round:
	VMOVDQU 0(AX), Y8
	VMOVDQU Y8, 0(SP)
	VMOVDQU 32(AX), Y8
	VMOVDQU Y8, 32(SP)
	VMOVDQU 64(AX), Y8
	VMOVDQU Y8, 64(SP)
	VMOVDQU 96(AX), Y8
	VMOVDQU Y8, 96(SP)
	VMOVDQU 128(AX), Y8
	VMOVDQU Y8, 128(SP)
	VMOVDQU 160(AX), Y8
	VMOVDQU Y8, 160(SP)
	VMOVDQU 192(AX), Y8
	VMOVDQU Y8, 192(SP)
	VMOVDQU 224(AX), Y8
	VMOVDQU Y8, 224(SP)
	VMOVDQU 256(AX), Y8
	VMOVDQU Y8, 256(SP)
	VMOVDQU 288(AX), Y8
	VMOVDQU Y8, 288(SP)
	VMOVDQU 320(AX), Y8
	VMOVDQU Y8, 320(SP)
	VMOVDQU 352(AX), Y8
	VMOVDQU Y8, 352(SP)
	VMOVDQU 384(AX), Y8
	VMOVDQU Y8, 384(SP)
	VMOVDQU 416(AX), Y8
	VMOVDQU Y8, 416(SP)
	VMOVDQU 448(AX), Y8
	VMOVDQU Y8, 448(SP)
	VMOVDQU 480(AX), Y8
	VMOVDQU Y8, 480(SP)
	VPBROADCASTD firstHash<>+32(SB), Y0
	VPBROADCASTD firstHash<>+36(SB), Y1
	VPBROADCASTD firstHash<>+40(SB), Y2
	VPBROADCASTD firstHash<>+44(SB), Y3
	VPBROADCASTD firstHash<>+48(SB), Y4
	VPBROADCASTD firstHash<>+52(SB), Y5
	VPBROADCASTD firstHash<>+56(SB), Y6
	VPBROADCASTD firstHash<>+60(SB), Y7
	XORQ R9, R9 // which block

block:
	VMOVDQU Y0, 512(SP)
	VMOVDQU Y1, 544(SP)
	VMOVDQU Y2, 576(SP)
	VMOVDQU Y3, 608(SP)
	VMOVDQU Y4, 640(SP)
	VMOVDQU Y5, 672(SP)
	VMOVDQU Y6, 704(SP)
	VMOVDQU Y7, 736(SP)
	LEAQ roundK<>(SB), DX
	ROUNDS16
	MOVQ $3, R10

more:
	ADDQ $64, DX
	EXTEND16
	ROUNDS16
	DECQ R10
	JNZ  more
	VPADDD 512(SP), Y0, Y0
	VPADDD 544(SP), Y1, Y1
	VPADDD 576(SP), Y2, Y2
	VPADDD 608(SP), Y3, Y3
	VPADDD 640(SP), Y4, Y4
	VPADDD 672(SP), Y5, Y5
	VPADDD 704(SP), Y6, Y6
	VPADDD 736(SP), Y7, Y7
	TESTQ R9, R9
	JNZ  hashed
	INCQ R9
	VMOVDQU 512(AX), Y8
	VMOVDQU Y8, 0(SP)
	VMOVDQU 544(AX), Y8
	VMOVDQU Y8, 32(SP)
	VMOVDQU 576(AX), Y8
	VMOVDQU Y8, 64(SP)
	VMOVDQU 608(AX), Y8
	VMOVDQU Y8, 96(SP)
	MOVL CX, R8
	BSWAPL R8
	MOVQ R8, X8
	VPBROADCASTD X8, Y8
	VMOVDQU Y8, 128(SP)
	VPBROADCASTD padding<>+8(SB), Y8
	VMOVDQU Y8, 192(SP)
	VPBROADCASTD padding<>+28(SB), Y8
	VMOVDQU Y8, 480(SP)
	VPXOR Y8, Y8, Y8
	VMOVDQU Y8, 160(SP)
	VMOVDQU Y8, 224(SP)
	VMOVDQU Y8, 256(SP)
	VMOVDQU Y8, 288(SP)
	VMOVDQU Y8, 320(SP)
	VMOVDQU Y8, 352(SP)
	VMOVDQU Y8, 384(SP)
	VMOVDQU Y8, 416(SP)
	VMOVDQU Y8, 448(SP)
	JMP  block

hashed:
	VMOVDQU Y0, 0(AX)
	VMOVDQU Y1, 32(AX)
	VMOVDQU Y2, 64(AX)
	VMOVDQU Y3, 96(AX)
	VMOVDQU Y4, 128(AX)
	VMOVDQU Y5, 160(AX)
	VMOVDQU Y6, 192(AX)
	VMOVDQU Y7, 224(AX)
	INCQ CX
	DECQ BX
	JNZ  round
	VZEROUPPER
	RET
