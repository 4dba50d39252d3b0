#include "page/freeset.h"

#include "base/bits.h"
#include "base/check.h"

static struct span *span_of_link(struct link *link) {
  return link != NULL ? CONTAINER_OF(link, struct span, link) : NULL;
}

static struct span *span_of_age(struct link *link) {
  return link != NULL ? CONTAINER_OF(link, struct span, age) : NULL;
}

static struct freeset_sizes *sizes_for(struct freeset *set, const struct span *span) {
  return span->released_pages == 0 ? &set->resident : &set->absent;
}

void freeset_insert(struct freeset *set, struct span *span) {
  struct freeset_sizes *sizes = sizes_for(set, span);
  size_t pages = span->page_count;
  ASSERT(pages > 0 && span_state(span) == SPAN_FREE);
  if (pages < FREESET_LISTS) {
    list_push_front(&sizes->lists[pages], &span->link);
    sizes->filled[pages / 64] |= (uint64_t)1 << (pages % 64);
  } else {
    spantree_insert(&sizes->large, span);
  }
  set->count++;
}

void freeset_remove(struct freeset *set, struct span *span) {
  struct freeset_sizes *sizes = sizes_for(set, span);
  size_t pages = span->page_count;
  ASSERT(set->count > 0);
  if (pages < FREESET_LISTS) {
    struct list *list = &sizes->lists[pages];
    list_remove(list, &span->link);
    if (list_is_empty(list)) sizes->filled[pages / 64] &= ~((uint64_t)1 << (pages % 64));
  } else {
    spantree_remove(&sizes->large, span);
  }
  set->count--;
}

/* The number of the first list from `pages` on that is not empty, or FREESET_LISTS. */
static size_t first_filled(const struct freeset_sizes *sizes, size_t pages) {
  size_t word = pages / 64;
  uint64_t bits = sizes->filled[word] & (UINT64_MAX << (pages % 64));
  while (bits == 0) {
    if (++word == COUNT_OF(sizes->filled)) return FREESET_LISTS;
    bits = sizes->filled[word];
  }
  return word * 64 + lowest_bit(bits);
}

struct span *freeset_find(struct freeset_sizes *sizes, size_t pages) {
  ASSERT(pages > 0);
  if (pages < FREESET_LISTS) {
    size_t list = first_filled(sizes, pages);
    if (list < FREESET_LISTS) return span_of_link(sizes->lists[list].first);
  }
  return spantree_find(&sizes->large, pages);
}

void freeset_age_append(struct freeset *set, struct span *span) {
  struct span *newest = span_of_age(set->by_age.last);
  ASSERT(newest == NULL || newest->unused_since_ns <= span->unused_since_ns);
  (void)newest;
  list_push_back(&set->by_age, &span->age);
}

void freeset_age_insert_before(struct freeset *set, struct span *span, struct span *next) {
  ASSERT(next->age.list == &set->by_age && span->unused_since_ns == next->unused_since_ns);
  struct link *link = &span->age, *after = &next->age;
  if (after->prev == NULL) {
    list_push_front(&set->by_age, link);
    return;
  }
  CHECK(link->list == NULL, "span %p is filed by age already", (void *)span);
  *link = (struct link){.next = after, .prev = after->prev, .list = &set->by_age};
  after->prev->next = link;
  after->prev = link;
  set->by_age.count++;
}

void freeset_age_remove(struct freeset *set, struct span *span) {
  if (freeset_age_holds(span)) list_remove(&set->by_age, &span->age);
}

struct span *freeset_age_first(const struct freeset *set) {
  return span_of_age(set->by_age.first);
}

struct span *freeset_age_next(const struct span *span) {
  return span_of_age(span->age.next);
}

static size_t verify_list(const struct freeset_sizes *sizes, size_t pages, bool resident) {
  const struct list *list = &sizes->lists[pages];
  bool is_filled = (sizes->filled[pages / 64] >> (pages % 64) & 1) != 0;
  size_t count = 0;
  for (struct link *link = list->first; link != NULL; link = link->next) {
    const struct span *span = span_of_link(link);
    CHECK(link->list == list && span->page_count == pages && (span->released_pages == 0) == resident,
          "free span %p at %p, %zu pages, is on the list of %zu", (const void *)span, (void *)span->start,
          span->page_count, pages);
    count++;
  }
  CHECK(count == list->count && is_filled == (count > 0), "list of free spans of %zu pages: count or bitmap is wrong",
        pages);
  return count;
}

static size_t verify_sizes(const struct freeset_sizes *sizes, bool resident) {
  CHECK(list_is_empty(&sizes->lists[0]), "a free span has no pages");
  size_t count = 0;
  for (size_t pages = 0; pages < FREESET_LISTS; pages++) count += verify_list(sizes, pages, resident);
  spantree_verify(&sizes->large);
  for (const struct span *span = spantree_first(&sizes->large); span != NULL; span = spantree_next(span)) {
    CHECK(span->page_count >= FREESET_LISTS && (span->released_pages == 0) == resident,
          "free span %p at %p, %zu pages, is in the wrong tree", (const void *)span, (void *)span->start,
          span->page_count);
    count++;
  }
  return count;
}

static void verify_ages(const struct freeset *set) {
  uint64_t last_ns = 0;
  size_t count = 0;
  for (const struct span *span = freeset_age_first(set); span != NULL; span = freeset_age_next(span)) {
    CHECK(span_state(span) == SPAN_FREE && span_resident_pages(span) > 0 && span->unused_since_ns >= last_ns,
          "span %p at %p, %s, is misplaced by age", (const void *)span, (void *)span->start,
          span_state_name(span_state(span)));
    last_ns = span->unused_since_ns;
    count++;
  }
  CHECK(count == set->by_age.count, "free spans by age: %zu found, %zu counted", count, set->by_age.count);
}

void freeset_verify(const struct freeset *set) {
  size_t count = verify_sizes(&set->resident, true) + verify_sizes(&set->absent, false);
  CHECK(count == set->count, "free spans: %zu found, %zu counted", count, set->count);
  verify_ages(set);
}
