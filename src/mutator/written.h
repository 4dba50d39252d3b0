/* Which parts of the heap were written, and of other memory that the program may write: the pages that hold pointers,
 * protected and read again by os_dirty.h.
 *
 * A cycle protects all of them when it begins, before it scans anything.  What is reported later, once or several times, is
 * all that may have been written since then (or since it was last reported and protected again): pages of spans that came
 * to be meanwhile among it, since a page that was never protected counts as written.
 *
 * Pages without pointers are left out, but where they share a huge page with others: to protect a part of one splits it.
 *
 * So does the first write to a protected one, and a split one costs those who mark as much as small pages do.  Those that have
 * become quiet are joined (written_join). */
#ifndef MIDDEN_MUTATOR_WRITTEN_H
#define MIDDEN_MUTATOR_WRITTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/os.h"

/* Early, while the process has one thread, if it can be: spares the first cycle some milliseconds.  The arena is told to ask whether
 * its pages are better left small, which they are where a first write to a protected page takes many times what it should. */
void written_init(void);

/* What the first write to a protected page takes, where that is many times what it should; else 0.  The first call tries, in a part of
 * a millisecond; any thread, at any time. */
uint32_t written_fault_ns(void);

/* Whether the system can tell: false where it said that it cannot, or may not.  The first call tries. */
bool written_is_available(void);

/* Whether what was written since the last protection, or will be, is reported still: false in a fork's child, and where the
 * program has closed the descriptors. */
bool written_is_watched(void);

/* A cycle begins: protects.  Where it fails, nothing is known of any page.  0 or -errno.
 *
 * Then huge pages may be joined that were split, up to `most` of those that were not written since the last cycle began; how
 * many were.  Each takes a fifth of a millisecond.  With any the cycle begins anew: joined ones count as written.  What is
 * written from written_begin on is news to the next cycle. */
int written_protect(void);
size_t written_join(size_t most);
void written_begin(void);

/* A cycle has ended, in a part of the heap: of the chunks to which the program wrote during the cycle, what it is likely to write
 * before the next one counts as written from now on, which spares it a fault for each page.  That are pages with much room, into
 * which it allocates; and unless `only_room`, for the sake of a minor cycle, all. */
void written_allow(size_t part, bool only_room);

/* Divides the heap into parts that may be read by different threads at once: several, but none of less than a huge page.  Nobody else
 * calls any of these meanwhile.  How many there are now, and where one lies. */
void written_divide(void);
size_t written_part_count(void);
struct os_range written_part(size_t part);

/* Calls `visit` for each range of a part that was written; with `protect` it is protected again before.  In bytes, how
 * much that was; or -errno: then some ranges may never be reported. */
typedef void written_visit_fn(void *argument, struct os_range range);
ptrdiff_t written_visit(size_t part, bool protect, written_visit_fn *visit, void *argument);

/* The same outside the heap: of whole pages of private memory, which stay mapped meanwhile.  A cycle that wants to hear of them
 * protects them before it reads any, after written_protect.  Where the system refuses, the visit fails, then or later: -errno. */
void written_protect_outside(struct os_range pages);
ptrdiff_t written_visit_outside(struct os_range pages, bool protect, written_visit_fn *visit, void *argument);

/* In a fork's child. */
void written_forked(void);

#endif
