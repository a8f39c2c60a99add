/* advance-plugin: 10 % for customers with 1,000 loyalty points, for which it asks the shop. It goes with sample-plugin, and comes before it. */
#include "../../shop/points.h"

FERRULE_PLUGIN(FERRULE_NAME("advance-plugin") FERRULE_VERSION("1.2.0") FERRULE_THREADS("concurrent") FERRULE_KEY("license", "Apache-2.0")
                   FERRULE_DESCRIPTION("A discount for customers with loyalty points.") FERRULE_KEY("requires", "sample-plugin ^1"));

FERRULE_IMPORT(loyalty_points);

FERRULE_HOOK_META(before_checkout, FERRULE_DOC("Has nothing to say to customers with fewer points."));
FERRULE_HOOK(before_checkout) { return discount_for_points(call, FERRULE_ORDINAL(loyalty_points), 10); }
