/* Written by an export: what pocketseq.c has to know of the model. */
#ifndef {{ snake | upper }}_MODEL_H
#define {{ snake | upper }}_MODEL_H

#include "pocketseq.h"

static const pocketseq_signature {{ snake }}_signatures[] = {
    /* source and target length in code points, hypotheses */
{% for name, source, target, hypotheses in signatures %}
    {"{{ name }}", {{ source }}, {{ target }}, {{ hypotheses }}},
{% endfor %}
};

static const pocketseq_description {{ snake }}_model = {
    "{{ model.file }}",
    {{ model.bytes }},
    "{{ model.sha256 }}",
    {{ signatures | length }},
    {{ snake }}_signatures,
};

#endif
