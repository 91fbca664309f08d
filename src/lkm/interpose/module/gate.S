/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where every interposed call arrives, from a stub in the module's own object that has put the real function
 * into r10 and its rule into r11 (lkm/interpose/rewrite.py). What is only asked about is jumped to, so that its
 * arguments, those on the stack too, and its return address are what the module made them. What is asked for its
 * return value is called, with a frame that the unwinder knows (objtool writes the ORC entries).
 */
#include <linux/linkage.h>
#include <asm/nospec-branch.h>

#ifndef RET
#define RET ret
#endif

/* Words of the caller's stack that a function with arguments there gets a copy of. */
#define STACK_WORDS 16

SYM_FUNC_START(lkm_gate)
	pushq	%rbp
	movq	%rsp, %rbp
	pushq	%rax
	pushq	%r9
	pushq	%r8
	pushq	%rcx
	pushq	%rdx
	pushq	%rsi
	pushq	%rdi
	pushq	%r10
	pushq	%r11
	movq	%rsp, %rdi
	call	lkm_enter
	cmpl	$1, %eax
	je	.Lanswer
	cmpl	$2, %eax
	je	.Lcall
	cmpl	$3, %eax
	je	.Lcall_stack
	popq	%r11
	popq	%r10
	popq	%rdi
	popq	%rsi
	popq	%rdx
	popq	%rcx
	popq	%r8
	popq	%r9
	popq	%rax
	popq	%rbp
	JMP_NOSPEC r10

.Lanswer:
	movq	-8(%rbp), %rax
	leave
	RET

.Lcall_stack:
	.set	.Lat, 16 + 8 * (STACK_WORDS - 1)
	.rept	STACK_WORDS
	pushq	.Lat(%rbp)
	.set	.Lat, .Lat - 8
	.endr
.Lcall:
	movq	-8(%rbp), %rax
	movq	-16(%rbp), %r9
	movq	-24(%rbp), %r8
	movq	-32(%rbp), %rcx
	movq	-40(%rbp), %rdx
	movq	-48(%rbp), %rsi
	movq	-56(%rbp), %rdi
	movq	-64(%rbp), %r10
	CALL_NOSPEC r10
	movq	%rax, -8(%rbp)
	leaq	-72(%rbp), %rdi
	call	lkm_leave
	movq	-8(%rbp), %rax
	leave
	RET
SYM_FUNC_END(lkm_gate)
