/* The free spans of a page heap, filed twice.
 *
 * By size, to be found by an allocation: spans of 1 to 127 pages in one list per page count, with a bitmap of the
 * lists that are not empty; larger ones in a tree.  All of that exists twice, for spans that are wholly resident and
 * for spans with pages that are not.
 *
 * By age, to be found by a release: one list of the spans that have resident pages, unused for longest first.  It stays
 * sorted without searching: a span that becomes free goes to its end, and whoever splits or merges spans gives the
 * result the place, and the time, of a part.
 *
 * A span's page count, address and released_pages must not change while it is filed by size.  Guarded by the page
 * heap's lock. */
#ifndef MIDDEN_PAGE_FREESET_H
#define MIDDEN_PAGE_FREESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "page/span.h"
#include "page/spantree.h"

/* Lists hold spans of less than this many pages, the tree the others. */
enum { FREESET_LISTS = 128 };

struct freeset_sizes {
  struct list lists[FREESET_LISTS];    /* by page count; a span freed last is first */
  uint64_t filled[FREESET_LISTS / 64]; /* one bit a list: set while it is not empty */
  struct spantree large;
};

struct freeset {
  struct freeset_sizes resident; /* wholly resident spans */
  struct freeset_sizes absent;   /* spans with at least one page that is not */
  struct list by_age;            /* linked through span.age, sorted by unused_since_ns */
  size_t count;                  /* spans filed by size */
};

static inline size_t span_resident_pages(const struct span *span) { return span->page_count - span->released_pages; }

/* Files a span by size, and takes it out again. */
void freeset_insert(struct freeset *set, struct span *span);
void freeset_remove(struct freeset *set, struct span *span);

/* The smallest span of at least `pages` pages: the lowest address among equals of 128 and more pages, the one freed
 * last among smaller ones; or NULL. */
struct span *freeset_find(struct freeset_sizes *sizes, size_t pages);

/* Filing by age: as the newest, in front of another span (with its time), or no more.  Removing is allowed for a span
 * that is not filed. */
void freeset_age_append(struct freeset *set, struct span *span);
void freeset_age_insert_before(struct freeset *set, struct span *span, struct span *next);
void freeset_age_remove(struct freeset *set, struct span *span);
static inline bool freeset_age_holds(const struct span *span) { return span->age.list != NULL; }

/* The span that has been unused for longest, and the one after it; NULL at the end. */
struct span *freeset_age_first(const struct freeset *set);
struct span *freeset_age_next(const struct span *span);

/* Walks everything and stops the process on a broken invariant. */
void freeset_verify(const struct freeset *set);

#endif
