// What the plug-in does, without a word about its host: a test calls it as it is.
#pragma once

#include <string>
#include <string_view>

// A greeting of whoever is named. Nobody's name is "world".
std::string greeting(std::string_view name);
