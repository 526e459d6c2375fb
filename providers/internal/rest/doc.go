// Package rest makes one HTTP call to a vendor, and makes it right: one request and never a second one, bounded in time and
// size, and with the answer to the question that matters most for a recall: may the vendor have seen it?
//
// It knows HTTP and no vendor. A provider builds a [Call], hands it to [Client.Do], reads the vendor's code out of the
// [Answer], and asks [Answer.Fault] for the error, which never holds a URL, a header, a credential or an unbounded body.
package rest
