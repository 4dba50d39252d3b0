#include "shapes.h"

enum { LARGE_PAGES = FREESET_LISTS, HALF_PAGES = LARGE_PAGES / 2 };

/* Lays a span that will be free later, and a page behind it that keeps it apart from the next.  False at the end of the
 * arena. */
static bool lay_apart(struct lab *lab, size_t pages) {
  if (lab_pages_left(lab) <= pages) return false;
  lab_hold(lab, lab_lay(lab, pages));
  lab_lay(lab, 1);
  return true;
}

/* Takes a span of what is free and frees it at once, which undoes the split by a merge. */
static unsigned take_and_return(struct lab *lab, size_t pages) {
  struct span *span = lab_take(lab, pages, PAGE_BYTES);
  if (span == NULL) return 1;
  pageheap_free(&lab->heap, span);
  return 2;
}

/* Takes a span and frees one of the last few that were taken. */
static unsigned take_and_drop(struct lab *lab, size_t pages) {
  enum { KEPT = 64 };
  struct span *span = lab_take(lab, pages, PAGE_BYTES);
  if (span != NULL) lab_hold(lab, span);
  if (lab->held_count < KEPT && span != NULL) return 1;
  lab_drop(lab, lab_random(lab, lab->held_count));
  return 2;
}

/* ---- churn: sizes of all magnitudes, long lives and short ones ---- */

enum { CHURN_LIMIT_PAGES = 512, CHURN_YOUNG = 64, CHURN_ALIGNMENT_PAGES = 16 };

/* Frees a span, mostly one of those allocated last, and allocates another. */
static unsigned churn_step(struct lab *lab) {
  bool is_young = lab_random(lab, 4) != 0 && lab->held_count > CHURN_YOUNG;
  size_t low = is_young ? lab->held_count - CHURN_YOUNG : 0;
  lab_drop(lab, lab_random_between(lab, low, lab->held_count));
  size_t alignment = lab_random(lab, 32) == 0 ? CHURN_ALIGNMENT_PAGES * PAGE_BYTES : PAGE_BYTES;
  struct span *span = lab_take(lab, lab_random_size(lab, CHURN_LIMIT_PAGES), alignment);
  if (span != NULL) lab_hold(lab, span);
  return 2;
}

/* A third of the spans go, and then each that is left is exchanged once, on average. */
static void churn_build(struct lab *lab) {
  for (size_t pages = 1; lab_pages_left(lab) >= pages; pages = lab_random_size(lab, CHURN_LIMIT_PAGES)) {
    lab_hold(lab, lab_lay(lab, pages));
  }
  size_t keep = lab->held_count * 2 / 3;
  while (lab->held_count > keep) lab_drop(lab, lab_random(lab, lab->held_count));
  for (size_t i = 0; i < 4 * keep; i++) churn_step(lab);
}

/* ---- pages: every second page is free ---- */

static void pages_build(struct lab *lab) {
  while (lay_apart(lab, 1)) continue;
  lab_drop_all(lab);
}

/* A page goes, and one of those that went before comes back. */
static unsigned pages_step(struct lab *lab) { return take_and_drop(lab, 1); }

/* ---- large: free spans of 128 to 255 pages ---- */

static void large_build(struct lab *lab) {
  while (lay_apart(lab, lab_random_between(lab, LARGE_PAGES, 2 * LARGE_PAGES))) continue;
  lab_drop_all(lab);
}

static unsigned large_step(struct lab *lab) {
  return take_and_return(lab, lab_random_between(lab, LARGE_PAGES, 2 * LARGE_PAGES));
}

/* ---- distinct: free spans of 128, 129, 130... pages, each size once, freed in that order ---- */

static void distinct_build(struct lab *lab) {
  size_t pages = LARGE_PAGES;
  while (lay_apart(lab, pages)) pages++;
  lab->largest_pages = pages - 1;
  for (size_t i = 0; i < lab->held_count; i++) pageheap_free(&lab->heap, lab->held[i]);
  lab->held_count = 0;
}

static unsigned distinct_step(struct lab *lab) {
  return take_and_return(lab, lab_random_between(lab, LARGE_PAGES, lab->largest_pages + 1));
}

/* ---- equal: the worst for a best fit, spans that differ in their address alone ---- */

static void equal_build(struct lab *lab) {
  while (lay_apart(lab, LARGE_PAGES)) continue;
  for (size_t i = 0; i < lab->held_count; i++) pageheap_free(&lab->heap, lab->held[i]);
  lab->held_count = 0;
}

/* A fit with a rest of one page, or an exact one. */
static unsigned equal_step(struct lab *lab) { return take_and_drop(lab, LARGE_PAGES - lab_random(lab, 2)); }

/* ---- mixed: half of the free spans have given the upper half of their pages back ---- */

/* Spans that are wholly resident are a little larger, so that the heap has to weigh one sort against the other. */
static void mixed_build(struct lab *lab) {
  enum { RESIDENT_PAGES = LARGE_PAGES + 8 };
  size_t group_pages = LARGE_PAGES + RESIDENT_PAGES + 2, groups = lab_pages_left(lab) / group_pages;
  for (size_t i = 0; i < groups; i++) {
    lab_hold(lab, lab_lay(lab, HALF_PAGES));
    lab->held[groups + i] = lab_lay(lab, HALF_PAGES);
    lab_lay(lab, 1);
    lab->held[2 * groups + i] = lab_lay(lab, RESIDENT_PAGES);
    lab_lay(lab, 1);
  }
  for (size_t i = groups; i < 2 * groups; i++) pageheap_free(&lab->heap, lab->held[i]);
  pageheap_release(&lab->heap, SIZE_MAX, 0);
  for (size_t i = 2 * groups; i < 3 * groups; i++) lab_hold(lab, lab->held[i]);
  lab_drop_all(lab);
}

/* What steps have made resident goes back now and then. */
static unsigned mixed_step(struct lab *lab) {
  unsigned count = take_and_return(lab, 1 + lab_random(lab, LARGE_PAGES));
  if (lab_random(lab, 16) == 0) pageheap_release(&lab->heap, HALF_PAGES * PAGE_BYTES, 0);
  return count;
}

/* ---- released: one span with next to nothing behind it ---- */

static void released_build(struct lab *lab) {
  pageheap_free(&lab->heap, lab_lay(lab, lab_pages_left(lab)));
  pageheap_release(&lab->heap, SIZE_MAX, 0);
}

/* As much goes back as was touched, on average, and some pages at the low end stay resident: what is known of the other
 * end must survive the merges. */
static unsigned released_step(struct lab *lab) {
  enum { TOUCHED_PAGES = 16 };
  unsigned count = take_and_return(lab, 1);
  if (lab_random(lab, TOUCHED_PAGES) == 0) count += take_and_return(lab, TOUCHED_PAGES);
  pageheap_release(&lab->heap, PAGE_BYTES, 0);
  return count;
}

const struct shape shapes[] = {
    {"churn", "1 to 512 pages, long lives and short ones", churn_build, churn_step},
    {"pages", "every second page is free", pages_build, pages_step},
    {"large", "128 to 255 pages, at random", large_build, large_step},
    {"distinct", "128, 129, 130... pages, each size once", distinct_build, distinct_step},
    {"equal", "128 pages, all of them", equal_build, equal_step},
    {"mixed", "128 pages, the upper half released; 136 pages", mixed_build, mixed_step},
    {"released", "one span, all but a few pages of it released", released_build, released_step},
    {0},
};
