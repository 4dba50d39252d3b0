/* A cache that keeps nothing alive: it finds an object for as long as somebody else holds it.
 *
 * The table's words are weak links.  They lie in static data, which the collector scans, so they hold addresses
 * inverted; the collector stores NULL where an object died. */
#include <assert.h>
#include <errno.h>
#include <midden/midden.h>
#include <stdio.h>

enum { PLACES = 64 };

struct picture {
  unsigned number;
  unsigned char pixels[4096];
};

static void *cache[PLACES]; /* inverted addresses, or NULL */

static void *invert(void *word) { return (void *)~(uintptr_t)word; }

/* Runs in midden_locked_call: between reading the word and holding the object no collection may come. */
static void *look_up(void *place) {
  void *word = *(void **)place;
  return word == NULL ? NULL : invert(word);
}

static struct picture *load(unsigned number) {
  struct picture *picture = midden_alloc_data(sizeof *picture);
  assert(picture != NULL);
  picture->number = number;
  return picture;
}

static struct picture *get(unsigned number) {
  void **place = &cache[number % PLACES];
  struct picture *picture = midden_locked_call(look_up, place);
  if (picture != NULL && picture->number == number) return picture;
  picture = load(number);
  *place = invert(picture);
  int error = midden_weak_link(place, picture, MIDDEN_WEAK_BEFORE_FINALIZERS);
  assert(error == 0 || error == -EEXIST /* the link follows the new picture */);
  return picture;
}

static int count_cached(void) {
  int count = 0;
  for (int i = 0; i < PLACES; i++) count += cache[i] != NULL;
  return count;
}

static struct picture *held;

int main(void) {
  for (unsigned i = 0; i < PLACES; i++) get(i);
  held = get(7);
  int before = count_cached();
  midden_collect();
  int after = count_cached();
  printf("%d pictures cached, %d after a collection; the one in use is still picture %u\n", before, after,
         held->number);
  assert(get(7) == held);
  assert(before == PLACES && after >= 1 && after < PLACES / 2);
  return 0;
}
