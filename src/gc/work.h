/* Work buffers: the grey objects, that is, those that are marked and not yet scanned.
 *
 * A marker pushes and pops at a buffer of its own.  When that is full its older half goes to a pool that all share; when it
 * is empty the marker takes a buffer from there.  Markers that find the pool empty wait; when all wait, marking is
 * done.
 *
 * Memory for buffers comes from the system while marking and is kept for the next cycle.  When there is none to be had,
 * the grey object is not lost: it is marked already, and its address widens the range of the overflow, which is scanned
 * again when the rest is done (mark_rescan_overflow).  The first few buffers are made at start: with none at all each
 * scan of the heap would get no further than to the next objects, and a long list would cost its length squared. */
#ifndef MIDDEN_GC_WORK_H
#define MIDDEN_GC_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WORK_ITEMS = 1022 };

struct work_buffer {
  struct work_buffer *next; /* atomic; in the pool, or in a list of its owner's */
  size_t count;
  uintptr_t items[WORK_ITEMS];
};

/* Makes the first buffers.  May be called again after it failed.  0 or -ENOMEM. */
int work_init(void);

/* An empty buffer, or NULL where there is no memory. */
struct work_buffer *work_get_empty(void);
void work_put_empty(struct work_buffer *buffer);

/* Keeps some empty buffers in reserve, their memory touched.  By the driver, while others mark: who needs a buffer then does
 * not map memory, nor wait for first touches, which take a millisecond in some virtual machines. */
void work_keep_reserve(void);

/* Puts a buffer with items into the pool; what few items it has may join others', for a moment in which the pool has neither. */
void work_publish(struct work_buffer *buffer);

/* A buffer with items, or NULL at once if the pool is empty. */
struct work_buffer *work_take(void);

/* Whether the pool has a buffer with items. */
bool work_is_available(void);

/* Before marking: nobody takes part yet. */
void work_begin(void);

/* A marker takes part from now on. */
void work_join(void);

/* Whether a marker waits for work: then others do well to share. */
bool work_is_wanted(void);

/* A buffer with items; waits while others still mark.  NULL when all that joined wait: there is no grey object left. */
struct work_buffer *work_take_or_finish(void);

/* Notes a grey object that no buffer had room for. */
void work_overflow(uintptr_t object);

/* Whether any is noted that nobody has taken. */
bool work_has_overflowed(void);

/* Takes the range of addresses noted since the last call; false if none. */
bool work_take_overflow(uintptr_t *low, uintptr_t *high);

/* In a fork's child: what is grey is forgotten. */
void work_forget(void);

/* Tests: at most so many buffers are made; 0 for no limit. */
void work_limit_buffers(size_t count);

#endif
