/* libxml2 as a plug-in: XPath over documents of others.
 *
 * Nothing is loaded from elsewhere: no DTD, no entity of another file, nothing over the network. libxml2's own limits are in force.
 * What it says of a faulty document is the message of the call, and no line on the host's standard error. */
#include <libxml/parser.h>
#include <libxml/xpath.h>
#include <limits.h>

#include <ferrule/sdk.h>

FERRULE_PLUGIN(FERRULE_NAME("xml") FERRULE_VERSION("1.0.0")
                   FERRULE_DESCRIPTION("XPath over XML, by libxml2. The configuration is the expression; without one it is /*."));

#if LIBXML_VERSION >= 21200
static void silent(void *arg, const xmlError *error) { (void)arg, (void)error; }
#else
static void silent(void *arg, xmlErrorPtr error) { (void)arg, (void)error; }
#endif

FERRULE_START {
    char text[1024];
    xmlXPathContextPtr context;
    xmlXPathCompExprPtr expression;
    int32_t status = ferrule_in_text(call, text, sizeof text);
    if (status) return status;
    xmlInitParser(); /* once in a process; to ask for it again does no harm */
    if (!(context = xmlXPathNewContext(NULL))) return FERRULE_NO_MEMORY;
    context->error = silent;
    expression = xmlXPathCtxtCompile(context, (const xmlChar *)(text[0] ? text : "/*"));
    xmlXPathFreeContext(context);
    if (!expression) return ferrule_fail(call, FERRULE_INVALID, "the configuration is no XPath expression: %s", text);
    call->state = expression;
    return FERRULE_OK;
}

FERRULE_STOP {
    xmlXPathFreeCompExpr(call->state);
    return FERRULE_OK;
}

/* Appends a text of libxml2's, and frees it. */
static int32_t append(ferrule_buffer *lines, xmlChar *text) {
    int32_t status = text ? ferrule_buffer_append(lines, text, strlen((const char *)text)) : FERRULE_NO_MEMORY;
    xmlFree(text);
    return status ? status : ferrule_buffer_append(lines, "\n", 1);
}

static int32_t found(ferrule_call *call, xmlXPathObjectPtr result) {
    ferrule_buffer lines = {0};
    int32_t status = FERRULE_OK;
    int i;
    if (result->type != XPATH_NODESET)
        status = append(&lines, xmlXPathCastToString(result));
    else
        for (i = 0; status == FERRULE_OK && result->nodesetval && i < result->nodesetval->nodeNr; i++)
            status = ferrule_cancelled(call) ? FERRULE_CANCELLED
                                             : append(&lines, xmlXPathCastNodeToString(result->nodesetval->nodeTab[i]));
    if (status == FERRULE_OK) return ferrule_reply_buffer(call, &lines);
    ferrule_buffer_free(&lines);
    return status;
}

static int32_t evaluate(ferrule_call *call, xmlDocPtr document) {
    xmlXPathContextPtr context = xmlXPathNewContext(document);
    xmlXPathObjectPtr result;
    int32_t status;
    if (!context) return FERRULE_NO_MEMORY;
    context->error = silent;
    result = xmlXPathCompiledEval(call->state, context);
    status = result ? found(call, result) : ferrule_fail(call, FERRULE_FAILED, "the expression cannot be evaluated on this document");
    xmlXPathFreeObject(result);
    xmlXPathFreeContext(context);
    return status;
}

static int32_t faulty(ferrule_call *call, xmlParserCtxtPtr parser) {
    const char *what = parser->lastError.message ? parser->lastError.message : "no XML";
    int len = (int)strcspn(what, "\n");
    return ferrule_fail(call, FERRULE_INVALID, "line %d: %.*s", parser->lastError.line, len, what);
}

FERRULE_FN_META(find, FERRULE_DOC("The text of what the expression finds in a document, a line for each node.") FERRULE_IN("application/xml")
                          FERRULE_OUT("text/plain"));
FERRULE_FN(find) {
    const int options = XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING;
    xmlParserCtxtPtr parser;
    xmlDocPtr document;
    int32_t status;
    if (call->in_len > INT_MAX) return ferrule_fail(call, FERRULE_INVALID, "longer than libxml2 takes");
    if (call->in_len == 0) return ferrule_fail(call, FERRULE_INVALID, "no document");
    if (!(parser = xmlNewParserCtxt())) return FERRULE_NO_MEMORY;
    document = xmlCtxtReadMemory(parser, (const char *)call->in, (int)call->in_len, NULL, NULL, options);
    status = document ? evaluate(call, document) : faulty(call, parser);
    xmlFreeDoc(document);
    xmlFreeParserCtxt(parser);
    return status;
}
