/* The heap profile: for each call stack and size, what was allocated, and what of it is in use.
 *
 * Objects are sampled (alloc/sample.h).  A sampled object is watched (gc/special.h) for the bucket of its size and of the
 * call stack that allocated it, and counts there: once as allocated, and once as freed, when midden_free or a collection
 * ends its watch.
 *
 *     allocated - freed    of a bucket: the objects that are watched for it
 *     profile              what one call of profile_start began; its number is sample_epoch.  Its buckets are in a list,
 *                          oldest first, and in a table, by hash; none leaves before the next profile begins
 *     orphan               a bucket of an earlier profile, which objects are still watched for: in neither.  It goes with
 *                          the last of them
 *
 * A profile that was stopped is read as before: its objects die and count.
 *
 * Locks.  All of it is under one lock, LOCK_RANK_PROFILE, in critical sections.  Call stacks are taken outside of them: the
 * unwinder may wait for the loader's lock, which whoever stops the world holds until all critical sections have ended.  For
 * the same reason the watch is not yet there when the object is, but it is before the program sees the object. */
#ifndef MIDDEN_GC_PROFILE_H
#define MIDDEN_GC_PROFILE_H

#include <stddef.h>
#include <stdint.h>

#include "midden/midden.h"
#include "mutator/mutator.h"

void profile_init(void);

/* Begins a profile, with a mean distance in bytes; the one before is forgotten.  0; -EALREADY where one is running;
 * -ENOMEM. */
int profile_start(struct mutator *self, size_t distance);

/* 0, or -EALREADY where none is running. */
int profile_stop(struct mutator *self);

/* Enters a sampled object, which the program has not seen yet, and returns it.  `caller` is where the calling function
 * returns to: frames above it are the library's.  Not in critical sections. */
void *profile_record(struct mutator *self, void *object, const void *caller);

/* As midden_profile_visit. */
size_t profile_visit(struct mutator *self, midden_profile_visit_fn *visit, void *argument);

/* The mean distance of the latest profile; 0: there was none. */
size_t profile_distance(struct mutator *self);

/* Samples of this profile for which there was no memory. */
uint64_t profile_lost(struct mutator *self);

#endif
