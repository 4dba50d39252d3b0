/* The heap profile that the options ask for. */
#ifndef MIDDEN_API_PROFILE_H
#define MIDDEN_API_PROFILE_H

#include "midden/midden.h"

/* While the library starts: remembers what is asked for.  The path is kept as it is. */
void profile_set_options(const struct midden_options *options);

/* When it has started: begins the profile, if one was asked for. */
void profile_start_by_options(void);

#endif
