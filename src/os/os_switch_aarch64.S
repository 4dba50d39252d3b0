/* Switching stacks on 64-bit ARM (AAPCS64); the contract is in os_switch.h.
 *
 * What a function must preserve for its caller goes to the stack: x19 to x30, the lower halves of v8 to v15, and the
 * floating-point control register.  The frame, from the saved stack pointer upward:
 *
 *      0   x29, x30
 *     16   x19 to x28
 *     96   d8 to d15
 *    160   fpcr, and eight bytes of nothing
 *
 * "hint #34" is bti c, the landing mark of an indirect call; what is reached by ret needs none.  A return address that
 * was signed is signed with the stack pointer of its own frame, and is checked against the same one. */

        .text
        .p2align 4
        .globl  os_switch
        .hidden os_switch
        .type   os_switch, %function
os_switch:
        .cfi_startproc
        hint    #34
        sub     sp, sp, #176
        .cfi_def_cfa_offset 176
        stp     x29, x30, [sp]
        .cfi_offset 29, -176
        .cfi_offset 30, -168
        stp     x19, x20, [sp, #16]
        .cfi_offset 19, -160
        .cfi_offset 20, -152
        stp     x21, x22, [sp, #32]
        .cfi_offset 21, -144
        .cfi_offset 22, -136
        stp     x23, x24, [sp, #48]
        .cfi_offset 23, -128
        .cfi_offset 24, -120
        stp     x25, x26, [sp, #64]
        .cfi_offset 25, -112
        .cfi_offset 26, -104
        stp     x27, x28, [sp, #80]
        .cfi_offset 27, -96
        .cfi_offset 28, -88
        stp     d8, d9, [sp, #96]
        stp     d10, d11, [sp, #112]
        stp     d12, d13, [sp, #128]
        stp     d14, d15, [sp, #144]
        mrs     x9, fpcr
        str     x9, [sp, #160]
        mov     x10, sp
        str     x10, [x0]
        mov     sp, x1
        ldr     x11, [sp, #160]
        cmp     x11, x9                 /* to write it is slow, and it rarely differs */
        b.eq    .Lcontrol_done
        msr     fpcr, x11
.Lcontrol_done:
        ldp     x19, x20, [sp, #16]
        ldp     x21, x22, [sp, #32]
        ldp     x23, x24, [sp, #48]
        ldp     x25, x26, [sp, #64]
        ldp     x27, x28, [sp, #80]
        ldp     d8, d9, [sp, #96]
        ldp     d10, d11, [sp, #112]
        ldp     d12, d13, [sp, #128]
        ldp     d14, d15, [sp, #144]
        ldp     x29, x30, [sp]
        add     sp, sp, #176
        .cfi_def_cfa_offset 0
        .cfi_restore 29
        .cfi_restore 30
        .cfi_restore 19
        .cfi_restore 20
        .cfi_restore 21
        .cfi_restore 22
        .cfi_restore 23
        .cfi_restore 24
        .cfi_restore 25
        .cfi_restore 26
        .cfi_restore 27
        .cfi_restore 28
        mov     x0, x2
        ret
        .cfi_endproc
        .size   os_switch, . - os_switch

/* Where the first switch to a stack arrives: calls the function in x19.  There is no caller: unwinders end here. */
        .p2align 4
        .globl  os_switch_first
        .hidden os_switch_first
        .type   os_switch_first, %function
os_switch_first:
        .cfi_startproc
        .cfi_undefined 30
        hint    #34
        blr     x19
        brk     #1
        .cfi_endproc
        .size   os_switch_first, . - os_switch_first

/* void os_switch_prepare(uintptr_t *saved, uintptr_t high, void (*function)(void *)) */
        .p2align 4
        .globl  os_switch_prepare
        .hidden os_switch_prepare
        .type   os_switch_prepare, %function
os_switch_prepare:
        .cfi_startproc
        hint    #34
        and     x1, x1, #-16
        stp     xzr, xzr, [x1, #-16]
        sub     x1, x1, #192
        adrp    x3, os_switch_first
        add     x3, x3, :lo12:os_switch_first
        stp     xzr, x3, [x1]
        stp     x2, xzr, [x1, #16]
        stp     xzr, xzr, [x1, #32]
        stp     xzr, xzr, [x1, #48]
        stp     xzr, xzr, [x1, #64]
        stp     xzr, xzr, [x1, #80]
        stp     xzr, xzr, [x1, #96]
        stp     xzr, xzr, [x1, #112]
        stp     xzr, xzr, [x1, #128]
        stp     xzr, xzr, [x1, #144]
        mrs     x4, fpcr
        stp     x4, xzr, [x1, #160]
        str     x1, [x0]
        ret
        .cfi_endproc
        .size   os_switch_prepare, . - os_switch_prepare

        .section .note.GNU-stack, "", %progbits
