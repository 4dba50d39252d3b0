#include "gc/profile.h"

#include <errno.h>
#include <string.h>

#include "alloc/sample.h"
#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"
#include "base/check.h"
#include "gc/special.h"
#include "gc/table.h"
#include "meta/fixalloc.h"
#include "os/os.h"
#include "span/object.h"

enum { OWN_FRAMES_MAX = 8 /* of the library, above the call that allocates */ };

struct stack {
  size_t depth;
  uintptr_t frames[MIDDEN_PROFILE_DEPTH];
};

struct bucket {
  struct bucket *next;      /* in the list of the profile */
  struct bucket *same_hash; /* in the table */
  uint64_t allocated, freed;
  size_t object_bytes;
  uint32_t epoch; /* its profile's number */
  struct stack stack;
};

static struct fixalloc buckets;

static struct {
  struct lock lock;
  uint32_t epoch; /* 0: there was none.  This and all that follows under lock */
  size_t distance;
  bool is_running;
  struct table table;          /* from hashes to buckets */
  struct bucket *first, *last; /* the list */
  size_t count;                /* of buckets in it */
  uint64_t lost;
} profile = {.lock = LOCK_INIT(LOCK_RANK_PROFILE)};

void profile_init(void) { fixalloc_init(&buckets, sizeof(struct bucket), false, PERSIST_SPECIAL); }

static void enter(struct mutator *self) {
  mutator_enter(self);
  lock_acquire(&profile.lock);
}

static void leave(struct mutator *self) {
  lock_release(&profile.lock);
  mutator_leave(self);
}

/* ---- buckets ---- */

/* Never 0, which the table could not hold. */
static uintptr_t hash_of(const struct stack *stack, size_t object_bytes) {
  uint64_t hash = object_bytes;
  for (size_t i = 0; i < stack->depth; i++) {
    hash = (hash ^ stack->frames[i]) * UINT64_C(0x9e3779b97f4a7c15);
    hash ^= hash >> 32;
  }
  return hash | 1;
}

static bool is_for(const struct bucket *bucket, const struct stack *stack, size_t object_bytes) {
  return bucket->object_bytes == object_bytes && bucket->stack.depth == stack->depth &&
         memcmp(bucket->stack.frames, stack->frames, stack->depth * sizeof stack->frames[0]) == 0;
}

/* In the table before it is in the list: the former may fail. */
static struct bucket *add_bucket_locked(const struct stack *stack, size_t object_bytes, uintptr_t hash,
                                        struct bucket *same_hash) {
  struct bucket *bucket = fixalloc_alloc(&buckets);
  if (bucket == NULL) return NULL;
  *bucket =
      (struct bucket){.same_hash = same_hash, .object_bytes = object_bytes, .epoch = profile.epoch, .stack = *stack};
  if (same_hash != NULL) {
    table_replace(&profile.table, hash, bucket);
  } else if (table_add(&profile.table, hash, bucket) != 0) {
    fixalloc_free(&buckets, bucket);
    return NULL;
  }
  *(profile.last != NULL ? &profile.last->next : &profile.first) = bucket;
  profile.last = bucket;
  profile.count++;
  return bucket;
}

static struct bucket *bucket_locked(const struct stack *stack, size_t object_bytes) {
  uintptr_t hash = hash_of(stack, object_bytes);
  struct bucket *same_hash = table_get(&profile.table, hash);
  for (struct bucket *bucket = same_hash; bucket != NULL; bucket = bucket->same_hash) {
    if (is_for(bucket, stack, object_bytes)) return bucket;
  }
  return add_bucket_locked(stack, object_bytes, hash, same_hash);
}

static void free_unused_orphan_locked(struct bucket *bucket) {
  if (bucket->epoch != profile.epoch && bucket->allocated == bucket->freed) fixalloc_free(&buckets, bucket);
}

/* ---- starting, stopping ---- */

static void forget_locked(void) {
  profile.epoch++;
  table_clear(&profile.table);
  for (struct bucket *bucket = profile.first, *next; bucket != NULL; bucket = next) {
    next = bucket->next;
    free_unused_orphan_locked(bucket);
  }
  profile.first = profile.last = NULL;
  profile.count = 0;
  profile.lost = 0;
}

/* Who starts a profile learns here that there is no memory for one. */
static int try_memory(void) {
  struct bucket *bucket = fixalloc_alloc(&buckets);
  struct special *record = special_alloc(false);
  if (bucket != NULL) fixalloc_free(&buckets, bucket);
  if (record != NULL) {
    record->kind = SPECIAL_WATCH;
    special_free(record);
  }
  return bucket != NULL && record != NULL ? 0 : -ENOMEM;
}

static int start_locked(size_t distance) {
  if (profile.is_running) return -EALREADY;
  int error = try_memory();
  if (error != 0) return error;
  forget_locked();
  profile.distance = distance;
  profile.is_running = true;
  atomic_store_release(&sample_epoch, profile.epoch);
  atomic_store_release(&sample_distance, distance);
  return 0;
}

int profile_start(struct mutator *self, size_t distance) {
  uintptr_t frame;
  os_call_stack(&frame, 1); /* what the unwinder does at its first call is better done here than in an allocation */
  enter(self);
  int error = start_locked(distance);
  lock_release(&profile.lock);
  if (error == 0) cache_follow_profile(&self->cache);
  mutator_leave(self);
  return error;
}

int profile_stop(struct mutator *self) {
  enter(self);
  int error = profile.is_running ? 0 : -EALREADY;
  profile.is_running = false;
  atomic_store_release(&sample_distance, (size_t)0);
  leave(self);
  return error;
}

/* ---- samples ---- */

/* What lies above the frame that returns to `caller` is the library's own; where it is not found, all stays. */
static void take_stack(struct stack *stack, const void *caller) {
  uintptr_t frames[OWN_FRAMES_MAX + MIDDEN_PROFILE_DEPTH];
  size_t count = os_call_stack(frames, COUNT_OF(frames)), own = 0;
  while (own < min_size(count, OWN_FRAMES_MAX) && frames[own] != (uintptr_t)caller) own++;
  if (own == min_size(count, OWN_FRAMES_MAX)) own = 0;
  stack->depth = min_size(count - own, MIDDEN_PROFILE_DEPTH);
  memcpy(stack->frames, frames + own, stack->depth * sizeof frames[0]);
}

/* A sampled object is gone.  Critical sections. */
static void died(uintptr_t object, void *argument) {
  struct bucket *bucket = argument;
  (void)object;
  lock_acquire(&profile.lock);
  bucket->freed++;
  free_unused_orphan_locked(bucket);
  lock_release(&profile.lock);
}

/* The bucket counts the object before it is watched: until then nothing else keeps an orphan. */
static struct bucket *count_allocated(uint32_t epoch, const struct stack *stack, size_t object_bytes) {
  struct bucket *bucket = NULL;
  lock_acquire(&profile.lock);
  if (epoch == profile.epoch) {
    bucket = bucket_locked(stack, object_bytes);
    if (bucket != NULL) bucket->allocated++;
    if (bucket == NULL) profile.lost++;
  }
  lock_release(&profile.lock);
  return bucket;
}

static void take_back(struct bucket *bucket) {
  lock_acquire(&profile.lock);
  bucket->allocated--;
  if (bucket->epoch == profile.epoch) profile.lost++;
  free_unused_orphan_locked(bucket);
  lock_release(&profile.lock);
}

static void enter_sample(uint32_t epoch, uintptr_t object, const struct stack *stack) {
  struct bucket *bucket = count_allocated(epoch, stack, span_slot_bytes(object_span(object)));
  if (bucket != NULL && special_watch(object, died, bucket) != 0) take_back(bucket);
}

void *profile_record(struct mutator *self, void *object, const void *caller) {
  struct sampler *sampler = &self->cache.sampler;
  uint32_t epoch = sampler->epoch;
  struct stack stack;
  ASSERT(self->critical == 0);
  sampler->is_paused = true; /* the unwinder may allocate, and a program may have put this heap in malloc's place */
  take_stack(&stack, caller);
  mutator_enter(self);
  enter_sample(epoch, (uintptr_t)object, &stack);
  sampler->is_paused = false;
  mutator_leave(self);
  return object;
}

/* ---- reading ---- */

struct cursor {
  struct bucket *bucket; /* the last that was visited; NULL: none */
  uint32_t epoch;
  size_t left; /* so many are still to be visited: not those that come meanwhile */
};

static uint64_t estimate(uint64_t count, double probability) { return (uint64_t)((double)count / probability + 0.5); }

static void describe(const struct bucket *bucket, size_t distance, struct midden_profile_bucket *to) {
  double probability = sample_probability(bucket->object_bytes, distance);
  double byte_probability = probability / (double)bucket->object_bytes;
  to->depth = bucket->stack.depth;
  to->object_bytes = bucket->object_bytes;
  to->samples_allocated = bucket->allocated;
  to->samples_freed = bucket->freed;
  to->objects_allocated = estimate(bucket->allocated, probability);
  to->objects_freed = estimate(bucket->freed, probability);
  to->bytes_allocated = estimate(bucket->allocated, byte_probability);
  to->bytes_freed = estimate(bucket->freed, byte_probability);
}

/* Where another profile has begun there is no next one. */
static bool next_locked(struct cursor *cursor, struct midden_profile_bucket *to, uintptr_t *frames) {
  if (cursor->left == 0 || cursor->epoch != profile.epoch) return false;
  cursor->left--;
  cursor->bucket = cursor->bucket == NULL ? profile.first : cursor->bucket->next;
  describe(cursor->bucket, profile.distance, to);
  memcpy(frames, cursor->bucket->stack.frames, to->depth * sizeof frames[0]);
  return true;
}

static struct cursor begin(struct mutator *self) {
  enter(self);
  struct cursor cursor = {.epoch = profile.epoch, .left = profile.count};
  leave(self);
  return cursor;
}

/* By whatever thread it is now: what was called for the last one may have suspended the fiber that walks, for another one to go on
 * with it. */
static NOINLINE bool next(struct cursor *cursor, struct midden_profile_bucket *to, uintptr_t *frames) {
  struct mutator *self = mutator_self();
  enter(self);
  bool found = next_locked(cursor, to, frames);
  leave(self);
  return found;
}

/* One bucket at a time is copied, and shown with nothing held. */
size_t profile_visit(struct mutator *self, midden_profile_visit_fn *visit, void *argument) {
  uintptr_t frames[MIDDEN_PROFILE_DEPTH];
  struct midden_profile_bucket bucket = {.stack = frames};
  struct cursor cursor = begin(self);
  size_t visited = 0;
  while (next(&cursor, &bucket, frames)) {
    visited++;
    if (!visit(&bucket, argument)) break;
  }
  return visited;
}

size_t profile_distance(struct mutator *self) {
  enter(self);
  size_t distance = profile.distance;
  leave(self);
  return distance;
}

uint64_t profile_lost(struct mutator *self) {
  enter(self);
  uint64_t lost = profile.lost;
  leave(self);
  return lost;
}
