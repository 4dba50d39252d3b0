/* Guarded objects: what the debugging modes keep in a slot beside the object, and check.
 *
 *     a slot that holds an object   object, zone of GUARD_ZONE_BYTE, size word, two words of trailer (kind TYPED only)
 *     a free slot of a small class  POISON_BYTE throughout, if guard_poison
 *
 * The zone has at least GUARD_ZONE_LEAST bytes and fills the slot.  The size word is the size that was asked for, with
 * GUARD_SIZE_TAG above it.  Neither zone nor size word can pass for an address of the heap: the collector may read them
 * like the rest of the slot.
 *
 * Checked: the zone, when its object is freed, found dead by a sweep, or met by the verifier; the poison, when its slot
 * is handed out again, met by a sweep, or met by the verifier.  What is damaged stops the process with a message.
 *
 * Memory checkers (base/memcheck.h) see the object's bytes alone; zone and free slots are hidden from them.  Size word and
 * trailer stay open, since the library reads them at any time: the zone lies between them and the object.
 *
 * Guarded objects are made one at a time, inside the critical section that takes the slot.  So a stopped world has no
 * slot whose allocation bit is set and whose zone is not written, and no window holds a slot.
 *
 * A slot is touched by the thread that allocates, frees or sweeps it, or while the world is stopped: no locks. */
#ifndef MIDDEN_SPAN_GUARD_H
#define MIDDEN_SPAN_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "page/span.h"

extern bool guard_active; /* every object is guarded; constant after start */
extern bool guard_poison; /* freed slots are filled and checked; constant after start, implies guard_active */

enum { POISON_BYTE = 0xdf, GUARD_ZONE_BYTE = 0xfb, GUARD_ZONE_LEAST = 16 };

/* Bytes of slot that an object of `bytes` needs; SIZE_MAX where that is beyond all measure. */
size_t guard_slot_bytes(unsigned kind, size_t bytes);

/* The slots of a fresh span are free. */
void guard_span_ready(struct span *span);

/* A free slot that was claimed becomes an object of `bytes`, cleared if its kind is. */
void guard_allocated(const struct span *span, uintptr_t slot, size_t bytes);

/* An object is about to become a free slot; its allocation bit is set still. */
void guard_freed(const struct span *span, uintptr_t slot);

/* The size that was asked for, 1 for none; in kinds with a trace function, in whole words.  0 where the size word is
 * damaged, or not written yet: another thread is making the object. */
size_t guard_size(const struct span *span, uintptr_t slot);

/* The same, of an object that is known to be one: stops the process where the size word is damaged. */
size_t guard_size_sound(const struct span *span, uintptr_t slot);

/* Before a sweep takes the old allocation bits away: they tell the objects that died from the slots that were free. */
void guard_sweep(const struct span *span);

/* Checks all slots of a span; the world is stopped. */
void guard_verify_stw(const struct span *span);

#endif
