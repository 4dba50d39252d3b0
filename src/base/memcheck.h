/* What memory checkers are told: AddressSanitizer, MemorySanitizer and Valgrind's memcheck.
 *
 * They know the memory of malloc.  Of the heap they know one large mapping, and would let pass whatever a program does in
 * there.  So the heap tells them which bytes are objects:
 *
 *     hidden       nobody but the collector may touch it: free pages, free slots, zones behind objects
 *     open         the library may touch it, what it holds counts as defined
 *     allocated    an object: open, and undefined until written where the kind is not zeroed
 *
 * The shipped library is not instrumented, the program may be: the sanitizers' run-time functions are weak references,
 * found when the program has them.  Valgrind listens to instructions that do nothing elsewhere; its headers are wanted
 * when the library is compiled, and without them Valgrind is not told.
 *
 * Which tools are there is found once, at start; memcheck_active is constant from then on, and where it is false no other
 * function here is called (memcheck_hide and the two quiet ones look for themselves).  Any thread may call them, also
 * while the world is stopped: none takes a lock that a stopped thread could hold. */
#ifndef MIDDEN_BASE_MEMCHECK_H
#define MIDDEN_BASE_MEMCHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

extern bool memcheck_active;      /* a tool is there and is to be told */
extern bool memcheck_on_valgrind; /* and it is Valgrind's memcheck */

/* Looks for tools; `tell` false: leaves them in the dark. */
void memcheck_init(bool tell);

void memcheck_hide_slow(uintptr_t start, size_t bytes);

/* Hides a range. */
static inline void memcheck_hide(uintptr_t start, size_t bytes) {
  if (UNLIKELY(memcheck_active)) memcheck_hide_slow(start, bytes);
}

/* Opens a range for the library. */
void memcheck_open(uintptr_t start, size_t bytes);

/* Open memory at `start` becomes an object of `bytes`, which Valgrind remembers with the calls that led here. */
void memcheck_allocated(uintptr_t start, size_t bytes, bool defined);

/* An object is no more: hides the `slot_bytes` that it lay in. */
void memcheck_freed(uintptr_t start, size_t slot_bytes);

/* Open memory in [low, high) is a stack to switch to, until the end of it; the number that stands for it. */
unsigned memcheck_stack_begin(uintptr_t low, uintptr_t high);
void memcheck_stack_end(unsigned number);

/* Between these the calling thread may read anything: stacks are full of words that were never written.  They nest. */
void memcheck_quiet_begin(void);
void memcheck_quiet_end(void);

/* A word that was read so, and passes for defined from now on: whatever is computed from it would be tainted too, down to
 * the addresses that allocation hands out. */
uintptr_t memcheck_launder(uintptr_t word);

#endif
