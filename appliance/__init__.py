"""The box: `install(bundle, store)` and `answer(request, ladder)`. The program is `lifeboat-appliance`."""
